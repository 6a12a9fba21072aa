"""Files of rows: where they are, which belong to a split, and reading them."""
