"""The command ``rnncond`` and its verbs, a module each."""
