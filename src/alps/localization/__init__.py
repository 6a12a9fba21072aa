"""Two checkpoints in, a score for every attention head out (Algorithm 1, lines 1 to 9)."""
