"""Pipelines of verbs: the file, its state, and the fingerprints that say what is up to date."""
