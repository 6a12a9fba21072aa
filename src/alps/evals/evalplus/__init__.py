"""Code benchmarks with the problems and rules of EvalPlus."""
