"""Predicted FLOPs and memory of a training, without torch."""
