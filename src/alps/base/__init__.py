"""Atomic writes, locks, hashes, keys, serialization of settings, progress; nothing about heads."""
