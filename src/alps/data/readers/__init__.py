"""Readers: what one row of a published dataset means, as examples."""
