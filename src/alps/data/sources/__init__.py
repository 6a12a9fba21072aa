"""Sources of training examples: tables of rows, files with named fields, embedded sets."""
