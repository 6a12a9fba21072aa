"""What a training costs, counted before it runs: operations and memory, without torch."""
