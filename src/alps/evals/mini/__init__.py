"""The embedded benchmarks."""
