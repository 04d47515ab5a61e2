"""Training: experiment, loop, step, optimiser, checkpoints."""
