"""The captioning systems, with each kind of source, cell and attention that they have."""

from tests.contract.cases import WIDTH, Case, grid, pooled, regions

SMALL = {"feature_size": WIDTH, "embedding": 7, "hidden": 8}
ATTENDING = {**SMALL, "attention": 5}

CASES = [
    Case("encdec_image", "encdec_image", pooled, SMALL, attends=False),
    Case("encdec_image two layers", "encdec_image", pooled, {**SMALL, "layers": 2}, attends=False),
    Case("encdec_image gru", "encdec_image", pooled, {**SMALL, "cell": "gru"}, attends=False),
    Case("mrnn", "mrnn", pooled, {**SMALL, "multimodal": 9}, attends=False),
    Case("show_tell", "show_tell", pooled, SMALL, attends=False),
    Case("show_attend_tell soft", "show_attend_tell", grid, ATTENDING),
    Case("show_attend_tell regions", "show_attend_tell", regions, ATTENDING),
    Case("show_attend_tell hard", "show_attend_tell", regions, {**ATTENDING, "attention_kind": "hard"}),
    Case("top_down grid", "top_down", grid, ATTENDING),
    Case("top_down regions", "top_down", regions, ATTENDING),
]
