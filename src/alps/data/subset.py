"""Training examples of a run: all, a nested subset, without duplicates or benchmark prompts.

A first pass over the source selects positions, which are cached on disk; a second yields the
examples. Memory holds a few bytes for each example, never its text.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64

from alps.base.atomic import replacing
from alps.base.cache import cache_dir
from alps.base.hashing import digest
from alps.base.key import canonical
from alps.data.example import DropCounts, Example, Split
from alps.settings.interfaces import Source

VERSION = 2
"""Increases when the same settings select other examples."""

DUPLICATE = "duplicate"
CONTAMINATED = "in a benchmark"
_ENCODING_SETTINGS = ("template", "max_length", "too_long")
_SUBSET_SETTINGS = (
    "max_examples", "fraction", "subset_seed", "skip_examples", "deduplicate", "decontaminate",
    "ngram",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingSubset:
    """Training examples of a run, in the source's order, read anew at each iteration.

    Attributes:
        source: The data source.
        positions: Sorted positions in the source, or None for all examples.
        num_examples: Number of examples.
        dropped: Number of dropped examples by reason; those outside a fraction don't count.
    """

    source: Source
    positions: Int[np.ndarray, " examples"] | None
    num_examples: int
    dropped: DropCounts

    def __len__(self) -> int:
        return self.num_examples

    def __iter__(self) -> Iterator[Example]:
        examples = self.source.examples("train")
        if self.positions is None:
            return examples
        selected = np.zeros(int(self.positions[-1]) + 1, dtype=bool)
        selected[self.positions] = True
        return compress(examples, selected)  # ends at the last selected example


def training_examples(source: Source) -> TrainingSubset:
    """Training examples of a run.

    Subsets are nested: examples are ranked by a hash of their position and the first K are kept,
    so 10 % of the examples are a subset of 30 %. `skip_examples` skips the first of that ranking.

    Raises:
        ValueError: If an example cannot be used, or none is left.
    """
    path = cache_dir() / "rows" / f"{digest(subset_identity(source, 'train'))}.npz"
    subset = _load(path, source) or _select(source)
    if not subset.num_examples:
        dropped = ", ".join(f"{count} left out as {why}" for why, count in subset.dropped.items())
        if source.skip_examples:
            skipped = f"data.skip_examples={source.skip_examples} skips all there are"
            dropped = "; ".join(filter(None, (skipped, dropped)))
        why = f" ({dropped})" if dropped else ""
        raise ValueError(f"data={source.name} has no training rows{why}")
    if not path.exists():
        _save(path, subset)
    return subset


def subset_identity(source: Source, split: Split) -> dict[str, Any]:
    """Everything that decides which examples a split has, as JSON values."""
    settings = canonical(source)
    unused = {*_ENCODING_SETTINGS, *(_SUBSET_SETTINGS if split == "test" else ())}
    if not source.decontaminate:
        unused.add("ngram")
    kept = {name: value for name, value in settings.items() if name not in unused}
    return {"version": VERSION, "split": split, **kept}


def _select(source: Source) -> TrainingSubset:
    dropped = DropCounts()
    positions, total = _usable(source, dropped)
    skip = min(source.skip_examples, len(positions))
    rest = len(positions) - skip
    usable = min(rest, source.max_examples or rest)
    keep = math.ceil(Fraction(str(source.fraction)) * usable)
    if keep < len(positions):
        ranks = np.fromiter((_rank(source.subset_seed, int(i)) for i in positions), dtype=np.uint64)
        ranked = np.argsort(ranks, kind="stable")
        positions = np.sort(positions[ranked[skip : skip + keep]])
    return TrainingSubset(source, None if keep == total else positions, keep, dropped)


def _usable(source: Source, dropped: DropCounts) -> tuple[Int[np.ndarray, " usable"], int]:
    """Positions without duplicates and contaminated examples, and the number of all examples."""
    benchmarks = None
    if source.prompt_files:
        from alps.data.decontaminate import BenchmarkPrompts

        benchmarks = BenchmarkPrompts(source.prompt_files, source.ngram)
    selected, digests, total = array("q"), bytearray(), 0
    for total, example in enumerate(source.examples("train", dropped), start=1):
        if benchmarks and benchmarks.contaminate(example):
            dropped[CONTAMINATED] += 1
            continue
        selected.append(total - 1)
        if source.deduplicate:
            digests += content_digest(example)
    positions = np.array(selected, dtype=np.int64)
    if source.deduplicate:
        first = _first_occurrences(np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2))
        if len(first) < len(positions):
            dropped[DUPLICATE] += len(positions) - len(first)
        positions = positions[first]
    return positions, total


def content_digest(example: Example) -> bytes:
    """16 bytes, equal for examples that differ in case and white space only."""
    texts = (" ".join(text.casefold().split()) for text in (example.instruction, example.answer))
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]


def _first_occurrences(digests: UInt64[np.ndarray, "examples 2"]) -> Int[np.ndarray, " first"]:
    """Sorted indices at which a digest occurs for the first time."""
    return np.sort(np.unique(digests, axis=0, return_index=True)[1])


def _rank(seed: int, position: int) -> int:
    """The first 64 bits of a hash; a subset keeps the lowest."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{position}".encode()).digest()[:8], "big")


def _save(path: Path, subset: TrainingSubset) -> None:
    positions = np.zeros(0, dtype=np.int64) if subset.positions is None else subset.positions
    reasons = [why for why, count in subset.dropped.items() if count]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            positions=positions,
            num_rows=subset.num_examples,
            reasons=np.array(reasons, dtype=np.str_),
            counts=np.array([subset.dropped[why] for why in reasons], dtype=np.int64),
        )


def _load(path: Path, source: Source) -> TrainingSubset | None:
    """A cached subset; a damaged file is removed."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            positions, num_examples = arrays["positions"], int(arrays["num_rows"])
            counts = zip(arrays["reasons"].tolist(), arrays["counts"].tolist(), strict=True)
            dropped = DropCounts(dict(counts))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        path.unlink(missing_ok=True)
        return None
    return TrainingSubset(source, positions if len(positions) else None, num_examples, dropped)
