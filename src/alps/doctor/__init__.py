"""Checks of a machine before runs: what is missing, what that costs, and the remedy."""
