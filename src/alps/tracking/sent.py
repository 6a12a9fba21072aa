"""`wandb-sync.json`: what W&B has of a folder, so that nothing is sent twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from alps.base.atomic import write_json
from alps.base.hashing import digest
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.settings.infrastructure import Logger
from alps.tracking.session import session_mode

NAME = "wandb-sync.json"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What W&B has of a folder.

    Attributes:
        target: Digest of host, project, entity and whether the run is recorded offline.
        rows: Digest of the steps it has, or None.
        record: Digest of everything it has, or None before result and heads were sent.
        offline: Folders of a run that is recorded offline, relative to the folder.
    """

    target: str
    rows: str | None = None
    record: str | None = None
    offline: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Writes the file atomically."""
        write_json(folder / NAME, asdict(self))

    def is_complete(self, folder: Path) -> bool:
        """Whether all of its offline folders still exist."""
        return all((folder / each).is_dir() for each in self.offline)


def read_sent(folder: Path) -> Sent | None:
    """What W&B has of a folder; None if that is unknown."""
    try:
        stored = json.loads((folder / NAME).read_text())
        known = {f.name: stored[f.name] for f in fields(Sent)}
        return Sent(**{**known, "offline": tuple(map(str, known["offline"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def target_digest(logger: Logger) -> str:
    """Identifies where runs of this logger go at present."""
    import wandb

    place = [wandb.setup().settings.base_url, logger.project, logger.entity, session_mode()]
    return digest(place)


def offline_folders(folder: Path) -> tuple[str, ...]:
    """Folders of runs that were recorded offline, in order, relative to the folder."""
    return tuple(str(p.relative_to(folder)) for p in sorted(folder.glob("wandb/offline-run-*")))


def mark_rows(folder: RunFolder, logger: Logger) -> None:
    """Notes that a training has logged all of its steps itself."""
    rows = digest(read_metrics(folder.metrics_path))
    offline = offline_folders(folder.path)
    Sent(target=target_digest(logger), rows=rows, offline=offline).write(folder.path)
