"""Loggers of trainings, and runs in W&B from the files of their folders."""
