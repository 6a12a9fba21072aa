"""What a method may look at when it chooses heads."""

from dataclasses import dataclass
from pathlib import Path

from alps.heads.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Context:
    """Places and facts; a method opens what it needs.

    Attributes:
        geometry: Shape of the base model.
        seed: The run's seed.
        base: Checkpoint of the base model.
        base_hash: Its content.
        task: Checkpoint of the task model, for methods that have a field `task_model`.
        task_hash: Its content.
        output_dir: Where scores are remembered.
    """

    geometry: Geometry
    seed: int
    base: Path
    base_hash: str
    output_dir: Path
    task: Path | None = None
    task_hash: str | None = None
