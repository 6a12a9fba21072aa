"""The sandbox for generated programs; imports the standard library only."""
