"""Atomic writes, hashes, keys, serialization of settings and progress; nothing about heads."""
