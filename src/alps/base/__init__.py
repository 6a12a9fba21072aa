"""Atomic writes, hashing, serialization of settings, progress: knows nothing of heads."""
