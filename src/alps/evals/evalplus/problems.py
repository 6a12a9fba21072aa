"""EvalPlus' problems: where HumanEval+ and MBPP+ come from, and whether they are whole."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alps.base.cache import cache_dir, cache_lock

Dataset = Literal["humaneval", "mbpp"]
Row = Mapping[str, Any]
FIELDS = (
    "task_id", "prompt", "entry_point", "contract",
    "canonical_solution", "base_input", "plus_input", "atol",
)  # fmt: skip
DOWNLOAD_SECONDS = 60.0  # without an answer


@dataclass(frozen=True)
class Release:
    """A set of problems as EvalPlus released it.

    Attributes:
        name: What people call it.
        file: Its place below `evals.data_dir`.
        asset: EvalPlus' name of it.
        version: Of the set, as EvalPlus 0.3.1 asks for it.
        count: Problems in it.
    """

    name: str
    file: str
    asset: str
    version: str
    count: int


RELEASES: dict[Dataset, Release] = {
    "humaneval": Release(
        "HumanEval+", "humaneval_plus/HumanEvalPlus.jsonl.gz", "HumanEvalPlus", "v0.1.10", 164
    ),
    "mbpp": Release("MBPP+", "mbpp_plus/MbppPlus.jsonl.gz", "MbppPlus", "v0.2.0", 378),
}


@dataclass(frozen=True, kw_only=True)
class Problems:
    """The problems of one evaluation, in the order of their numbers.

    Attributes:
        dataset: EvalPlus' name for the rules that judge them.
        label: What they are, in words.
        rows: As they stand in the file.
        content: The file that holds these problems and no others.
        is_subset: Whether that file exists nowhere else.
    """

    dataset: Dataset
    label: str
    rows: tuple[Row, ...]
    content: bytes
    is_subset: bool = True

    @property
    def file_name(self) -> str:
        """A name by which EvalPlus reads the file's format."""
        packed = self.content.startswith(b"\x1f\x8b")
        return "problems.jsonl.gz" if packed else "problems.jsonl"

    @property
    def md5(self) -> str:
        """What EvalPlus calls the hash of a data set."""
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


def released(dataset: Dataset, data_dir: Path | None, limit: int | None = None) -> Problems:
    """HumanEval+ or MBPP+, whole or the first problems of it.

    Args:
        dataset: Which.
        data_dir: Folder with the file below it, or None for EvalPlus' own release, which is
            downloaded once.
        limit: Number of problems, or None for all.

    Raises:
        ValueError: If the file is missing, short or damaged, or cannot be had; one sentence.
    """
    release = RELEASES[dataset]
    path = data_dir / release.file if data_dir is not None else _download(release)
    remedy = "get it again" if data_dir is not None else "delete it, and it is downloaded again"
    content, rows = _read(path, release, remedy)
    label = f"{release.name} {release.version}"
    if limit is None or limit >= release.count:
        return Problems(dataset=dataset, label=label, rows=rows, content=content, is_subset=False)
    return subset(dataset, f"{label}, first {limit}", rows[:limit])


def subset(dataset: Dataset, label: str, rows: tuple[Row, ...]) -> Problems:
    """Problems that are not a whole release."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return Problems(dataset=dataset, label=label, rows=rows, content=content)


def _read(path: Path, release: Release, remedy: str) -> tuple[bytes, tuple[Row, ...]]:
    try:
        content = path.read_bytes()
    except OSError:
        raise ValueError(
            f"{release.name} is missing: {path} cannot be read; put {Path(release.file).name} of "
            f"EvalPlus' release {release.version} there, or set evals.data_dir=null to download it"
        ) from None
    try:
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        rows = [json.loads(line) for line in text.decode().splitlines() if line.strip()]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from None
    for number, row in enumerate(rows, 1):
        absent = [f for f in FIELDS if not isinstance(row, dict) or f not in row]
        if absent:
            raise ValueError(f"{path} is damaged: row {number} has no {absent[0]}: {remedy}")
    ids = {row["task_id"] for row in rows}
    if len(ids) != release.count or len(rows) != release.count:
        raise ValueError(
            f"{path} has {len(ids)} problems, but {release.name} {release.version} has "
            f"{release.count}: {remedy}"
        )
    return content, tuple(sorted(rows, key=_number))


def _number(row: Row) -> int:
    return int(row["task_id"].rpartition("/")[2])


def _download(release: Release) -> Path:
    """EvalPlus' release in our cache, whole: EvalPlus itself would leave a file cut short."""
    path = cache_dir() / "evalplus" / f"{release.asset}-{release.version}.jsonl"
    with cache_lock(f"evalplus-{release.asset}"):
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            from evalplus.data.utils import get_dataset_metadata, make_cache

            url, _ = get_dataset_metadata(release.asset, release.version, False)
            with _patience(DOWNLOAD_SECONDS):
                make_cache(url, str(part))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            why = str(error) or type(error).__name__
            raise ValueError(
                f"{release.name} {release.version} cannot be downloaded ({why}); run `alps "
                "prefetch` where there is a network, or put the file below evals.data_dir"
            ) from None
        part.replace(path)
    return path


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Lets a connection fail that says nothing for so long."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
