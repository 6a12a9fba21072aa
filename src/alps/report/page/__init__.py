"""The dashboard: one self-contained HTML page about many runs."""
