"""What `rnncond store` shows of its sets, which readers get, what changed between two, and whether all is there."""
