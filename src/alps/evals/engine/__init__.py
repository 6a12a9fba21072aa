"""Inference engines: likelihoods and generation for lm-eval, through HFLM or vLLM."""
