"""Benchmarks of lm-evaluation-harness.

`benchmark`, `documents`, `ifeval`, `mmlu` and `lm_eval_internals` are imported with the settings.
They import lm-eval, and with it torch, inside functions only; the other modules import both.
"""
