"""Score cache `outputs/scores/<key>`: each metric of a checkpoint pair is computed once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from alps.base.atomic import replacing, write_json
from alps.base.hashing import digest
from alps.base.lock import hold
from alps.base.provenance import versions
from alps.heads.geometry import Geometry
from alps.localization.engine import Progress, localize_metrics
from alps.localization.head_pairs import Bias, Matrix
from alps.localization.scores import Scores
from alps.scores import default_options
from alps.settings.run import ALGORITHM_VERSION


@dataclass(frozen=True, kw_only=True)
class CheckpointPair:
    """Two checkpoints and how their heads are compared.

    Attributes:
        base: Folder, file or hub id.
        task: Likewise.
        base_name: Name of `base` in provenance, if not its path.
        task_name: Name of `task` in provenance, if not its path.
        base_hash: Content hash or identifier of `base`.
        task_hash: Likewise of `task`.
        geometry: Geometry of both, if neither has a `config.json`.
        matrix: As in `localize`.
        bias: As in `localize`.
        compat: As in `localize`.
        options: Options of the metrics that differ from their defaults.
    """

    base: Path | str
    task: Path | str
    base_hash: str
    task_hash: str
    base_name: str | None = None
    task_name: str | None = None
    geometry: Geometry | None = None
    matrix: Matrix = "product"
    bias: Bias = "ignore"
    compat: Literal["authors"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, output_dir: Path) -> Path:
        """The folder of its scores."""
        names = ("base_hash", "task_hash", "matrix", "bias", "compat", "options")
        identity = {"algorithm": ALGORITHM_VERSION, **{n: getattr(self, n) for n in names}}
        return output_dir / "scores" / f"pair-{digest(identity)[:12]}"


def localize_cached(
    output_dir: Path, pair: CheckpointPair, metrics: list[str], progress: Progress | None = None
) -> dict[str, Scores]:
    """`localize_metrics`, cached by content: only missing metrics are computed.

    Writes `scores.safetensors` (float64, (num_layers, num_heads), for each metric) and
    `scores.json` (their provenance).
    """
    folder = pair.folder(output_dir)
    known = _read(folder, pair)
    missing = {m: _options(pair, m) for m in metrics if m not in known}
    if missing:
        new = localize_metrics(
            pair.base, pair.task, missing, geometry=pair.geometry, matrix=pair.matrix,
            bias=pair.bias, compat=pair.compat, progress=progress,
        )  # fmt: skip
        for scores in new.values():
            scores.check_nonzero()
        folder.mkdir(parents=True, exist_ok=True)
        with hold(folder / ".lock"):
            known = _read(folder, pair) | {m: _with_names(s, pair) for m, s in new.items()}
            _write(folder, known)
    return {m: _with_names(known[m], pair) for m in metrics}


def cached_scores(output_dir: Path, pair: CheckpointPair, metric: str) -> Scores | None:
    """Cached scores of a metric, or None; opens neither checkpoint."""
    return _read(pair.folder(output_dir), pair).get(metric)


def _options(pair: CheckpointPair, metric: str) -> dict[str, Any]:
    """All options of a metric, defaults included; only those set with the authors' script."""
    own = default_options(metric)
    chosen = {k: v for k, v in pair.options.items() if k in own}
    return own | chosen if pair.compat is None else chosen


def _with_names(scores: Scores, pair: CheckpointPair) -> Scores:
    names = {"base": pair.base_name, "task": pair.task_name}
    provenance = {**scores.provenance, **{k: v for k, v in names.items() if v}}
    return replace(
        scores, base_hash=pair.base_hash, task_hash=pair.task_hash, provenance=provenance
    )


def _write(folder: Path, scores: Mapping[str, Scores]) -> None:
    one = next(iter(scores.values()))
    with replacing(folder / "scores.safetensors") as temporary:
        save_file({m: s.values for m, s in scores.items()}, temporary)
    about = {
        "geometry": asdict(one.geometry),
        "base_hash": one.base_hash,
        "task_hash": one.task_hash,
        "versions": versions(),
        "metrics": {m: s.provenance for m, s in scores.items()},
    }
    write_json(folder / "scores.json", about)


def _read(folder: Path, pair: CheckpointPair) -> dict[str, Scores]:
    """Cached scores with these options; damaged files are ignored and overwritten.

    The folder's name omits options with default values, and a default may have changed since the
    scores were computed.
    """
    try:
        about = json.loads((folder / "scores.json").read_text())
        geometry = Geometry(**about["geometry"])
        tables = load_file(folder / "scores.safetensors")
        if {t.shape for t in tables.values()} - {(geometry.num_layers, geometry.num_heads)}:
            return {}
        return {
            metric: Scores(
                np.asarray(table), metric, geometry, pair.base_hash, pair.task_hash,
                about["metrics"][metric],
            )
            for metric, table in tables.items()
            if about["metrics"][metric]["options"] == _options(pair, metric)
        }  # fmt: skip
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return {}
