"""Data: sources of rows, the prompt template, encoding, and the batch of each step."""
