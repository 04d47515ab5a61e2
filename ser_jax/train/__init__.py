"""Training: experiment, loop, step, objectives, optimiser, checkpoints."""
