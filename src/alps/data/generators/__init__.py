"""Generators of the embedded datasets: the same examples everywhere, without a download."""
