"""One search for every system: greedy, beam and sampling are the same loop over a ``step``.

>>> memory = model.encode(source)
>>> hypotheses = search(model.step, memory, model.init_state(memory), SearchOptions(beam=5, nbest=3))
>>> hypotheses.tokens  # (B, 3, T), best first
"""

from rnncond.search.backpointers import Hypotheses
from rnncond.search.ensemble import ensemble, join
from rnncond.search.loop import search
from rnncond.search.options import SearchOptions

__all__ = ["Hypotheses", "SearchOptions", "ensemble", "join", "search"]
