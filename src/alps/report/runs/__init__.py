"""Single runs: lists, one row a run, evaluations."""
