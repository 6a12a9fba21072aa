"""What a run is: frozen settings, their interfaces, and the key that names the run."""
