"""Where datasets lie in a model's representation space (Figure 7)."""
