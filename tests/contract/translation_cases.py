"""The translation systems, with each cell, each attention and each option that changes the arithmetic."""

from tests.contract.cases import VOCAB, Case, sentences

PLAIN = {"source_vocab_size": VOCAB, "embedding": 7, "hidden": 8}
DEEP = {**PLAIN, "layers": 2}
ATTENDING = {**PLAIN, "attention": 5, "readout": 6}
LUONG = {**ATTENDING, "cell": "lstm", "maxout": False}
GNMT = {**PLAIN, "attention": 5}


def case(system: str, options: str, config: dict, **more) -> Case:
    return Case(f"{system} {options}".strip(), system, sentences, {**config, **more}, attends=system != "encdec")


CASES = [
    case("encdec", "lstm reversed", DEEP),
    case("encdec", "lstm forward", DEEP, reverse_source=False),
    case("encdec", "gru", DEEP, cell="gru"),
    case("encdec", "gru fed", PLAIN, layers=1, cell="gru", feed_context=True, reverse_source=False),
    case("encdec", "lstm fed", DEEP, feed_context=True),
    case("encdec", "tied and shared", DEEP, hidden=7, tie_embeddings=True, share_embeddings=True),
    case("encdec_attention", "additive gru", ATTENDING),
    case("encdec_attention", "additive lstm deep", ATTENDING, layers=2, cell="lstm", maxout=False),
    case("encdec_attention", "dot", LUONG, score="dot"),
    case("encdec_attention", "general deep", LUONG, score="general", layers=2),
    case("encdec_attention", "concat gru", LUONG, score="concat", cell="gru"),
    case("encdec_attention", "dot unfed", LUONG, score="dot", layers=2, input_feeding=False),
    case("encdec_attention", "concat unfed", LUONG, score="concat", input_feeding=False),
    case("encdec_bidirectional", "gru", ATTENDING),
    case("encdec_bidirectional", "lstm tanh", ATTENDING, cell="lstm", maxout=False),
    case("encdec_bidirectional", "general", LUONG, score="general"),
    case("encdec_bidirectional", "general unfed", LUONG, score="general", input_feeding=False),
    case("encdec_bidirectional", "concat maxout", LUONG, score="concat", maxout=True),
    case("encdec_bidirectional", "tied and shared", ATTENDING, readout=7, tie_embeddings=True, share_embeddings=True),
    case("encdec_residual", "gru", ATTENDING, layers=3),
    case("encdec_residual", "lstm", ATTENDING, layers=2, cell="lstm"),
    case("encdec_residual", "concat", LUONG, layers=2, score="concat"),
    case("encdec_residual", "general", LUONG, layers=2, score="general"),
    case("encdec_residual", "concat unfed", LUONG, layers=2, score="concat", input_feeding=False),
    case("gnmt", "depth 2", GNMT, layers=2),
    case("gnmt", "depth 3", GNMT, layers=3),
    case("gnmt", "depth 4", GNMT, layers=4),
    case("gnmt", "gru", GNMT, layers=3, cell="gru"),
    case("gnmt", "tied", GNMT, layers=3, hidden=7, tie_embeddings=True, scale_embeddings=True),
]
