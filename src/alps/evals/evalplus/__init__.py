"""Code benchmarks that EvalPlus scores."""
