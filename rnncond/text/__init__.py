"""Text to ids and back."""

from rnncond.text.vocabulary import Level, Normalise, Punctuation, Text, Vocabulary

__all__ = ["Level", "Normalise", "Punctuation", "Text", "Vocabulary"]
