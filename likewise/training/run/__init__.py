"""A run: trainer, objective, arguments, checkpoints, evaluation on the way, health."""
