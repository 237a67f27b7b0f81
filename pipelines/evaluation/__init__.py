"""Scores of captions and translations."""
