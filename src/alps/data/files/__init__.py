"""Data files: location, assignment to splits, and reading."""
