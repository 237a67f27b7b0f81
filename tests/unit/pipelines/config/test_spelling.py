from pipelines.config.spelling import near


def test_the_nearest_is_named_and_nothing_that_is_far():
    assert near("dya", ["day", "night"]) == " Did you mean 'day'?"
    assert near("x", ["day", "night"]) == near("day", []) == ""
