"""What a run leaves on disk: its folder, result, evaluations, and which weights stay."""
