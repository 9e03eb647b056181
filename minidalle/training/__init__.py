"""How the stages are trained: sizes, objectives, the loop, checkpoints, many processes."""
