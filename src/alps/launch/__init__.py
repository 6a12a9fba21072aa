"""Processes of runs: local ranks, several nodes, a queue of devices, and SLURM jobs of a sweep."""
