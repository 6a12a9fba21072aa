"""ALPS: localize the attention heads a task needs, train only those, compare honestly."""
