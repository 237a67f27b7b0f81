"""Training on Ray Train: the loop, its workers and its driver."""
