"""The front door for Python: trained models and stores in a notebook, a script or a service, without Ray.

    from pipelines.api import load_captioner

    captioner = load_captioner("runs/show_attend_tell.small", weights="squeezenet1_0.safetensors")
    print(captioner.caption("photo.jpg"))

What is exported here is stable: names, arguments and fields are changed with a line under *Changed* in CHANGELOG.md
only. For millions of pictures or sentences there are the verbs, which resume and run on a cluster.
"""

from pipelines.api.captioning import Caption, CaptioningModel, Picture, load_captioner
from pipelines.api.figures import Figure
from pipelines.api.search_arguments import Alternative, SearchArguments
from pipelines.api.stores import StoredSet, open_store
from pipelines.api.translating import Translation, TranslationModel, load_translator
from pipelines.errors import UserError

__all__ = [
    "Alternative", "Caption", "CaptioningModel", "Figure", "Picture", "SearchArguments", "StoredSet", "Translation",
    "TranslationModel", "UserError", "load_captioner", "load_translator", "open_store",
]  # fmt: skip
