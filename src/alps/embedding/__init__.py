"""Datasets in a model's representation space (Figure 7)."""
