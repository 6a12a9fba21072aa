"""EvalPlus' problems: HumanEval+ and MBPP+ from a file or a download, checked for completeness."""

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
Problem = Mapping[str, Any]
FIELDS = (
    "task_id", "prompt", "entry_point", "contract",
    "canonical_solution", "base_input", "plus_input", "atol",
)  # fmt: skip
DOWNLOAD_TIMEOUT = 60.0  # seconds without an answer


@dataclass(frozen=True)
class Release:
    """A problem set as EvalPlus released it.

    Attributes:
        name: Its common name.
        file: Path below `evals.data_dir`.
        asset: EvalPlus' name for it.
        version: The version that EvalPlus 0.3.1 uses.
        count: Number of problems.
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
class ProblemSet:
    """The problems of one evaluation, sorted by number.

    Attributes:
        dataset: EvalPlus' dataset, whose rules apply.
        label: Name and version, for messages.
        problems: Records of the file.
        content: A file with exactly these problems.
        is_subset: Whether `content` differs from every released file.
    """

    dataset: Dataset
    label: str
    problems: tuple[Problem, ...]
    content: bytes
    is_subset: bool = True

    @property
    def file_name(self) -> str:
        """File name whose suffix tells EvalPlus the format."""
        packed = self.content.startswith(b"\x1f\x8b")
        return "problems.jsonl.gz" if packed else "problems.jsonl"

    @property
    def md5(self) -> str:
        """EvalPlus' hash of a dataset."""
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


def load_release(dataset: Dataset, data_dir: Path | None, limit: int | None = None) -> ProblemSet:
    """HumanEval+ or MBPP+, all problems or the first ones.

    Args:
        dataset: EvalPlus' dataset.
        data_dir: Folder that contains the file, or None to download EvalPlus' release once.
        limit: Number of problems, or None for all.

    Raises:
        ValueError: If the file is missing, incomplete or damaged, or the download fails; one
            sentence.
    """
    release = RELEASES[dataset]
    path = data_dir / release.file if data_dir is not None else _download(release)
    remedy = "get it again" if data_dir is not None else "delete it, and it is downloaded again"
    content, problems = _read(path, release, remedy)
    label = f"{release.name} {release.version}"
    if limit is None or limit >= release.count:
        return ProblemSet(
            dataset=dataset, label=label, problems=problems, content=content, is_subset=False
        )
    return subset(dataset, f"{label}, first {limit}", problems[:limit])


def subset(dataset: Dataset, label: str, problems: tuple[Problem, ...]) -> ProblemSet:
    """A problem set other than a complete release."""
    content = "".join(json.dumps(problem) + "\n" for problem in problems).encode()
    return ProblemSet(dataset=dataset, label=label, problems=problems, content=content)


def _read(path: Path, release: Release, remedy: str) -> tuple[bytes, tuple[Problem, ...]]:
    try:
        content = path.read_bytes()
    except OSError:
        raise ValueError(
            f"{release.name} is missing: {path} cannot be read; put {Path(release.file).name} of "
            f"EvalPlus' release {release.version} there, or set evals.data_dir=null to download it"
        ) from None
    try:
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        problems = [json.loads(line) for line in text.decode().splitlines() if line.strip()]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from None
    for number, problem in enumerate(problems, 1):
        absent = [f for f in FIELDS if not isinstance(problem, dict) or f not in problem]
        if absent:
            raise ValueError(f"{path} is damaged: row {number} has no {absent[0]}: {remedy}")
    ids = {problem["task_id"] for problem in problems}
    if len(ids) != release.count or len(problems) != release.count:
        raise ValueError(
            f"{path} has {len(ids)} problems, but {release.name} {release.version} has "
            f"{release.count}: {remedy}"
        )
    return content, tuple(sorted(problems, key=_number))


def _number(problem: Problem) -> int:
    return int(problem["task_id"].rpartition("/")[2])


def cached_release(release: Release) -> Path:
    """Place of a downloaded release in our cache."""
    return cache_dir() / "evalplus" / f"{release.asset}-{release.version}.jsonl"


def release_address(release: Release) -> str:
    """Where EvalPlus downloads a release."""
    from evalplus.data.utils import get_dataset_metadata

    return get_dataset_metadata(release.asset, release.version, False)[0]


def _download(release: Release) -> Path:
    """EvalPlus' release in our cache; EvalPlus itself would keep a truncated download."""
    path = cached_release(release)
    with cache_lock(f"evalplus-{release.asset}"):
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            from evalplus.data.utils import make_cache

            url = release_address(release)
            with _socket_timeout(DOWNLOAD_TIMEOUT):
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
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Sets a timeout for sockets of libraries that take none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
