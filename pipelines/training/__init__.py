"""Training on Ray Train: data, learner, checkpoints, run folders."""
