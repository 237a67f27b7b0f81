"""Recipes: typed sections, overrides, search spaces, messages."""
