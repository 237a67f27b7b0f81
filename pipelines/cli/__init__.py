"""The command line: what `rnncond VERB` takes, says in its help, and calls. Loads neither torch nor Ray nor MLflow."""
