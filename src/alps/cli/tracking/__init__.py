"""Commands about runs in W&B: `alps sync` and `alps workspace`."""
