"""Readers: convert a row of a published dataset to examples."""
