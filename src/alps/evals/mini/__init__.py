"""Benchmarks over the generated datasets, which need no download."""
