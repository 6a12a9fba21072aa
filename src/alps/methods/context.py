"""Inputs of a method when it chooses heads."""

from dataclasses import dataclass
from pathlib import Path

from alps.heads.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Context:
    """Base model, task model and seed of a run.

    Attributes:
        geometry: Geometry of the base model.
        seed: The run's seed.
        base: Checkpoint of the base model.
        base_hash: Its content hash.
        task: Checkpoint of the task model, for methods with a field `task_model`.
        task_hash: Its content hash.
        output_dir: Parent of the score cache.
    """

    geometry: Geometry
    seed: int
    base: Path
    base_hash: str
    output_dir: Path
    task: Path | None = None
    task_hash: str | None = None
