"""Commands about SLURM jobs: submit, status, logs, cancel, retry."""
