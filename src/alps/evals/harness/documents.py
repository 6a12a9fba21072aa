"""A benchmark's documents: local files, or the hub's at one revision, whole or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.base.hashing import digest, file_hash
from alps.data.files.read import read_rows, row_files

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where the rows of a split are and how many there must be.

    Attributes:
        path: Local file, relative to `evals.data_dir`; with `.gz` behind it, too.
        hub_files: Names of the files on the hub (`main/test-*`).
        num_rows: Rows of the whole split: another number is a truncated or another file.
    """

    path: str
    hub_files: tuple[str, ...]
    num_rows: int


@dataclass(frozen=True)
class Place:
    """Where a benchmark's documents come from.

    Attributes:
        benchmark: Its name, for messages.
        hub: Dataset on the hub.
        revision: Its commit.
        data_dir: Folder with local files, or None for the hub's.
    """

    benchmark: str
    hub: str
    revision: str
    data_dir: Path | None

    def rows(self, split: Split, columns: Sequence[str]) -> list[Row]:
        """All rows of a split, only those columns.

        Raises:
            ValueError: If the files cannot be had or read, are not all there, or lack a column.
        """
        files, name = self._files(split)
        rows = [_columns(place, row, columns) for f in files for place, row in read_rows(f)]
        if len(rows) != split.num_rows:
            raise ValueError(
                f"{name} has {len(rows)} rows, but {self.benchmark} has {split.num_rows}: "
                "it is truncated or another file, copy or download it again"
            )
        return rows

    def fingerprint(self, splits: Mapping[str, Split]) -> str | None:
        """Hash of the local files, or the hub's id and revision; None if a file is missing."""
        if self.data_dir is None:
            return f"{self.hub}@{self.revision}"
        try:
            return digest({name: file_hash(self._local(split)) for name, split in splits.items()})
        except (OSError, ValueError):
            return None

    def _files(self, split: Split) -> tuple[Iterable[Path], str]:
        if self.data_dir is not None:
            path = self._local(split)
            return [path], str(path)
        folder = _snapshot(self, split.hub_files)
        return row_files(folder, split.hub_files), f"{self.hub}@{self.revision}"

    def _local(self, split: Split) -> Path:
        assert self.data_dir is not None
        path = self.data_dir / split.path
        for found in (path, path.with_name(f"{path.name}.gz")):
            if found.is_file():
                return found
        raise ValueError(
            f"{self.benchmark} needs {path}, which does not exist: copy it there, or set "
            f"evals.data_dir=null to use {self.hub} of the hub"
        )


def _columns(place: str, row: Row, columns: Sequence[str]) -> Row:
    lacking = [name for name in columns if row.get(name) is None]
    if lacking:
        raise ValueError(f"{place} has no {lacking[0]}: it is damaged or another file")
    return {name: row[name] for name in columns}


def _snapshot(place: Place, patterns: Sequence[str]) -> Path:
    """The files of the dataset in the hub's own cache; those of a full commit are asked for once.

    Raises:
        ValueError: If they cannot be had; one sentence.
    """
    from huggingface_hub import snapshot_download

    from alps.models.hub import CONNECTION_ERRORS, error_reason, translate_hub_errors

    at = f"{place.hub}@{place.revision}"
    local = "set evals.data_dir to a folder with local files"
    try:
        with translate_hub_errors(
            at, f"evals.benchmarks.{place.benchmark}.hub={place.hub}", "dataset", local
        ):
            return Path(
                snapshot_download(
                    place.hub,
                    repo_type="dataset",
                    revision=place.revision,
                    allow_patterns=list(patterns),
                )
            )
    except (OSError, *CONNECTION_ERRORS) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ValueError(
            f"{at}, the documents of {place.benchmark}, cannot be downloaded "
            f"({error_reason(cause)}) and is not in the hub cache: connect to the network, "
            f"or {local}"
        ) from None
