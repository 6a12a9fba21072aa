"""The files of a run: its folder, result and evaluations."""
