"""Benchmarks: what a trained or an untrained model can do, under a named protocol."""
