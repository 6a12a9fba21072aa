"""Figures drawn from a filled table or from embeddings."""
