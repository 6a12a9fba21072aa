"""Processes: local ranks of one run, and (later) whole tables on a cluster."""
