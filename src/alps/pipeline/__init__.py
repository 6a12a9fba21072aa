"""Before a run starts: preflight checks, prefetching, and what a checkpoint's name means."""
