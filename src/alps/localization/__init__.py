"""Localization: a score for every attention head from two checkpoints (Algorithm 1, 1 to 9)."""
