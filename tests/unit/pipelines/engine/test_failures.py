import pyarrow as pa
import pytest

from feature_store import failure_schema
from pipelines.engine.failures import Failures, failure


@pytest.mark.parametrize(("id_column", "uri"), [("image_id", {"uri": ["a.jpg"]}), ("id", {})])
def test_a_row_for_one_input_of_any_verb(id_column, uri):
    one = pa.table({id_column: ["a"], **uri, "version": ["1"], "tries": [2]})
    table = failure(one, "decode", "broken\n  in\ttwo places " + "x" * 1000)
    assert table.schema == failure_schema(id_column)
    (row,) = table.to_pylist()
    assert row.pop("reason") == ("broken in two places " + "x" * 1000)[:500]
    expected = {id_column: "a", "uri": "a.jpg" if uri else "", "version": "1", "stage": "decode", "tries": 3}
    assert row == expected


def test_tries_are_counted_by_input():
    failures = Failures.before(pa.table({"id": ["a", "b"], "tries": [0, 4]}))
    assert failures.table().num_rows == 0
    for id_ in "ba":
        failures.add(id_, "/text", None, "compute", "too long")
    assert [(row["id"], row["tries"]) for row in failures.table().to_pylist()] == [("b", 5), ("a", 1)]
