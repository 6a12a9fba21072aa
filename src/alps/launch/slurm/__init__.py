"""Runs as SLURM jobs: submitted by dependency, watched from any shell, requeued in time."""
