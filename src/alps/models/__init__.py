"""Models: loading, training of chosen heads, export."""
