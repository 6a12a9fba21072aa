"""The boundary to Hydra: compose, build, grids, errors."""
