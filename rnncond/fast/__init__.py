"""Fast arithmetic: the same numbers as the plain code beside it, but for rounding."""
