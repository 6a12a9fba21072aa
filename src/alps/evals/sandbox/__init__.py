"""Sandbox for generated programs; imports only the standard library."""
