"""Evaluation of trained and base models on benchmarks, each under a named protocol."""
