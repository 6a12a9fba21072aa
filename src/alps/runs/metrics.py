"""`metrics.csv`, one line per optimizer step, and how far a training is."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

from alps.runs.folder import RunFolder

COLUMNS = ("step", "loss", "lr", "tokens", "seconds")

PACE_STEPS = 50
"""Last steps from whose pace the remaining time follows."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Optimizer steps done.
        num_steps: Optimizer steps of the training.
        seconds_left: Predicted time for the others at the pace of the last ones, or None.
    """

    step: int
    num_steps: int
    seconds_left: float | None


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Complete lines of a `metrics.csv`; a truncated last line is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [r for r in csv.DictReader(file) if all(r.get(c) for c in COLUMNS)]


def final_loss(path: Path) -> float | None:
    """Mean loss over the last tenth of the steps (at least one step)."""
    losses = [float(r["loss"]) for r in read_metrics(path)]
    last = losses[-math.ceil(len(losses) / 10) :]
    return sum(last) / len(last) if last else None


def read_progress(folder: RunFolder) -> Progress | None:
    """Progress of the training in a folder, or None before its first step."""
    try:
        num_steps = int(json.loads(folder.schedule_path.read_text())["num_steps"])
        rows = read_metrics(folder.metrics_path)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no training yet, or an older version's
    if not rows:
        return None
    recent = rows[-PACE_STEPS - 1 :]
    step, steps = int(rows[-1]["step"]), int(recent[-1]["step"]) - int(recent[0]["step"])
    seconds = float(recent[-1]["seconds"]) - float(recent[0]["seconds"])
    left = seconds / steps * (num_steps - step) if steps > 0 else None
    return Progress(step=step, num_steps=num_steps, seconds_left=left)
