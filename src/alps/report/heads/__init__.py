"""Scores and head sets: heat maps, summaries, overlaps."""
