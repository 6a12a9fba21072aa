"""Benchmarks of lm-evaluation-harness."""
