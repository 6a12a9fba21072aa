"""Reads a benchmark's documents from local files, or from the hub at a pinned revision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.base.hashing import digest, file_hash
from alps.data.files.read import read_rows, row_files

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Files of a split, and its size.

    Attributes:
        path: Local file, relative to `evals.data_dir`, optionally with the suffix `.gz`.
        hub_files: Patterns of the files on the hub (`main/test-*`).
        num_rows: Number of documents; with another number the file is truncated or a wrong one.
    """

    path: str
    hub_files: tuple[str, ...]
    num_rows: int


@dataclass(frozen=True)
class DocumentSource:
    """Location of a benchmark's documents.

    Attributes:
        benchmark: Name of the benchmark, for messages.
        hub: Dataset on the hub.
        revision: Commit of the dataset.
        data_dir: Folder with local files, or None for the hub's.
    """

    benchmark: str
    hub: str
    revision: str
    data_dir: Path | None

    def read(self, split: Split, columns: Sequence[str]) -> list[Document]:
        """All documents of a split, with the given columns.

        Raises:
            ValueError: If files are missing, unreadable or truncated, or lack a column.
        """
        files, name = self._files(split)
        documents = [_select(where, row, columns) for f in files for where, row in read_rows(f)]
        if len(documents) != split.num_rows:
            raise ValueError(
                f"{name} has {len(documents)} rows, but {self.benchmark} has {split.num_rows}: "
                "it is truncated or another file, copy or download it again"
            )
        return documents

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
        for candidate in (path, path.with_name(f"{path.name}.gz")):
            if candidate.is_file():
                return candidate
        raise ValueError(
            f"{self.benchmark} needs {path}, which does not exist: copy it there, or set "
            f"evals.data_dir=null to use {self.hub} of the hub"
        )


def _select(where: str, row: Document, columns: Sequence[str]) -> Document:
    missing = [name for name in columns if row.get(name) is None]
    if missing:
        raise ValueError(f"{where} has no {missing[0]}: it is damaged or another file")
    return {name: row[name] for name in columns}


def _snapshot(source: DocumentSource, patterns: Sequence[str]) -> Path:
    """Folder of the dataset's files in the hub's cache; a cached commit needs no network.

    Raises:
        ValueError: If they cannot be downloaded; one sentence.
    """
    from huggingface_hub import snapshot_download

    from alps.models.hub import CONNECTION_ERRORS, error_reason, translate_hub_errors

    at = f"{source.hub}@{source.revision}"
    local = "set evals.data_dir to a folder with local files"
    try:
        with translate_hub_errors(
            at, f"evals.benchmarks.{source.benchmark}.hub={source.hub}", "dataset", local
        ):
            return Path(
                snapshot_download(
                    source.hub,
                    repo_type="dataset",
                    revision=source.revision,
                    allow_patterns=list(patterns),
                )
            )
    except (OSError, *CONNECTION_ERRORS) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ValueError(
            f"{at}, the documents of {source.benchmark}, cannot be downloaded "
            f"({error_reason(cause)}) and is not in the hub cache: connect to the network, "
            f"or {local}"
        ) from None
