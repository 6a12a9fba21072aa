"""Reports: tables and figures, made from result files only."""
