"""Recurrent conditional generation: encode a condition once, then generate a sentence word by word."""
