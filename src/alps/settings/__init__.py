"""Settings of a run: frozen dataclasses, their interfaces, and the key of the run."""
