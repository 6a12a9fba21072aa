"""Benchmarks that lm-eval asks and scores."""
