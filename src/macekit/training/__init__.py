"""Training: losses, metrics, optimisers, the loop, checkpoints, reports; one process or several."""
