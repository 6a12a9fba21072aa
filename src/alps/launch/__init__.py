"""Processes of runs: local ranks, and SLURM jobs of a sweep."""
