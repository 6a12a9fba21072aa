"""Tables: rows, columns, cells, intervals, and their formats."""
