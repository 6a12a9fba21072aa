"""Checks of a machine before runs: what it has, what is missing and what that costs; a function each."""
