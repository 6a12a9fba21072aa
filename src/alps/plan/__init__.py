"""What tables need before anything runs: which runs, in which order, at what cost. No torch."""
