from pipelines.config.spelling import instead_of, near


def test_the_nearest_is_named_and_nothing_that_is_far():
    assert near("dya", ["day", "night"]) == " Did you mean 'day'?"
    assert near("x", ["day", "night"]) == near("day", []) == ""


def test_the_nearest_comes_first_and_of_many_options_the_likely_ones_are_named():
    assert instead_of("dya", ["day", "night"]) == " Did you mean 'day'? There are day, night."
    assert instead_of("x", []) == " There are none."
    many = [f"{size}.{number:02d}" for size in ("small", "large") for number in range(20)]
    text = instead_of("smal.07", many)
    assert text.startswith(" Did you mean 'small.07'? There are small.07, ") and text.endswith(" and 35 more.")
    assert instead_of("0", ["word"] * 20) == " There are word, word, word, word, word and 15 more."
