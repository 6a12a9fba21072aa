"""Attention heads of grouped-query models: geometry, head sets, and a head in two checkpoints."""
