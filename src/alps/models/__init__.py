"""Models: loading them, training only some of their heads, and writing them out again."""
