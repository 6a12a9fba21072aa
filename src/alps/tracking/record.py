"""What a W&B run shows, from the files of a folder: they are the truth, W&B has a copy."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from alps.base.hashing import content_sha256, digest
from alps.heads.head_set import HeadSet
from alps.runs.evaluation import flat_scores
from alps.runs.folder import RunFolder
from alps.runs.metrics import COLUMNS, read_metrics
from alps.runs.result import Result
from alps.settings.infrastructure import Logger
from alps.tracking.session import Identity, run_identity

Row = Mapping[str, str]
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Headings and rows."""

SCORE_HEADINGS = ("benchmark", "metric", "value", "low", "high", "stderr")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a W&B run shows.

    Attributes:
        identity: Its id, project, tags and settings.
        folder: Folder with the files.
        rows: Lines of `metrics.csv`.
        summary: Name -> final value.
        heads: Name -> head set, for heat maps.
        tables: Name -> table.
        files: Type of an artifact -> its files.
        images: Name -> PNG file.
    """

    identity: Identity
    folder: Path
    rows: Sequence[Row] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, HeadSet] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        """The last optimizer step; 0 without training."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def row_values(self) -> list[tuple[int, dict[str, float]]]:
        """Step and values of each row, as a training logs them."""
        names = [c for c in COLUMNS if c != "step"]
        return [(int(r["step"]), {n: _number(r[n]) for n in names}) for r in self.rows]

    def digest(self) -> str:
        """Identifies the content."""
        files = [p for paths in self.files.values() for p in paths] + list(self.images.values())
        content = {
            "identity": asdict(self.identity),
            "rows": list(map(dict, self.rows)),
            "summary": dict(self.summary),
            "tables": self.tables,
            "files": {path.name: content_sha256(path) for path in files},
        }
        return digest(json.loads(json.dumps(content, default=str)))


def run_record(folder: RunFolder, logger: Logger | None = None) -> Record:
    """The record of a training, finished or not.

    Args:
        folder: Its folder.
        logger: Project, entity and group, if not those of the run.

    Raises:
        RunFailed: If `result.json` is damaged.
    """
    run = folder.read_run()
    identity = run_identity(run)
    if logger is not None:
        identity = replace(identity, logger=logger)
    heads = folder.read_heads()
    finished = folder.result_path.exists()
    summary: dict[str, Any] = {"state": folder.status()["state"]}
    tables: dict[str, Table] = {}
    if finished:
        result = Result.read(folder.result_path)
        summary |= result_summary(result)
        tables["scores"] = score_table(result)
    return Record(
        identity=identity,
        folder=folder.path,
        rows=read_metrics(folder.metrics_path),
        summary=summary,
        heads={"heat_map": heads} if heads else {},
        tables={name: table for name, table in tables.items() if table[1]},
        files={"head_set": [folder.heads_path]} if heads else {},
    )


def base_record(folder: Path, logger: Logger) -> Record:
    """The record of a base model's evaluations: a folder in `outputs/evals`.

    Raises:
        RunFailed: If `result.json` is damaged.
    """
    result = Result.read(folder / "result.json")
    names = {"method": result.method, "model": result.model, "data": result.data}
    identity = Identity(
        key=folder.name,
        job_type="evaluate",
        tags=tuple(dict.fromkeys(n for n in names.values() if n)),
        config={part: {"name": name} for part, name in names.items() if name},
        logger=logger,
    )
    return Record(
        identity=identity,
        folder=folder,
        summary=result_summary(result),
        tables={"scores": score_table(result)},
    )


def localization_record(folder: Path, logger: Logger) -> Record:
    """The record of `alps localize`: a folder in `outputs/scores` with chosen heads.

    Raises:
        ValueError: If a file is damaged.
    """
    paths = sorted(folder.glob("heads-*.json"))
    heads = {path.stem.removeprefix("heads-"): HeadSet.read(path) for path in paths}
    first = next(iter(heads.values()))
    names = [str(first.provenance.get(name) or "") for name in ("base", "task")]
    config = {
        "base": names[0],
        "task": names[1],
        "metric": list(heads),
        "ratio": first.ratio,
        **{metric: dict(each.provenance) for metric, each in heads.items()},
    }
    summary: dict[str, Any] = {}
    for metric, each in heads.items():
        mass = each.score_mass()
        summary |= {f"{metric}/num_heads": len(each.heads), f"{metric}/score_mass": mass}
    return Record(
        identity=Identity(
            key=folder.name,
            job_type="localize",
            tags=tuple(dict.fromkeys([*heads, *(Path(n).name for n in names if n)])),
            config=config,
            logger=logger,
        ),
        folder=folder,
        summary=summary,
        heads={f"heat_map-{metric}": each for metric, each in heads.items()},
        files={"head_set": paths},
    )


def report_record(folder: Path, logger: Logger) -> Record:
    """The record of `alps report`: a folder in `outputs/reports` with `results.csv`.

    Raises:
        ValueError: If the table is empty.
    """
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError(f"{folder / 'results.csv'} is empty: `alps report` writes it again")
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".csv", ".json", ".md", ".tex")]
    files = [p for p in files if not p.name.startswith("wandb-")]
    experiment = folder.name.split("-")[0]
    return Record(
        identity=Identity(
            key=f"report-{folder.name}"[:128],
            job_type="report",
            tags=(experiment,),
            config={"experiment": experiment, "report": folder.name},
            logger=logger,
        ),
        folder=folder,
        tables={"table": (rows[0], rows[1:])},
        files={"report": files},
        images={f"figures/{path.stem}": path for path in sorted(folder.glob("*.png"))},
    )


def result_summary(result: Result) -> dict[str, Any]:
    """Results by name: scores as loggers name them, and each measurement of `result.json`."""
    own = ("evals", "uncertainty", "schema_version", "versions", "commits", "dropped", "deviations")
    values = {k: v for k, v in asdict(result).items() if k not in own and v is not None}
    text = "; ".join(result.deviations)
    remarks = {"deviations": text} if text else {}
    return {**values, **remarks, **flat_scores(result.evals, result.uncertainty)}


def score_table(result: Result) -> Table:
    """A line for each metric, with its interval."""
    rows = []
    for benchmark, metrics in result.evals.items():
        for metric, value in metrics.items():
            bounds = result.uncertainty.get(benchmark, {}).get(metric, {})
            around = [bounds.get(name) for name in ("low", "high", "stderr")]
            rows.append([benchmark, metric, float(value), *around])
    return SCORE_HEADINGS, rows


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() and "." not in text else value
