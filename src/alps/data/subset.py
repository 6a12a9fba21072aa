"""Which training rows a run uses: all, a part, or those that are neither doubled nor benchmarks'.

One pass over the source finds their positions, which are remembered on disk; another yields them.
No row stays in memory, only a few bytes for each.
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
from alps.data.example import Example, Split, Tally
from alps.settings.interfaces import Source

VERSION = 2
"""Raised when the same settings choose other rows."""

DUPLICATE = "duplicate"
CONTAMINATED = "in a benchmark"
_OF_TEMPLATE = ("template", "max_length", "too_long")
_OF_CHOICE = (
    "max_examples", "fraction", "subset_seed", "skip_examples", "deduplicate", "decontaminate",
    "ngram",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingRows:
    """The rows a run trains on, in the source's order, read anew at each iteration.

    Attributes:
        source: Where they come from.
        positions: Their positions in the source, rising, or None for all rows.
        num_rows: How many they are.
        tally: Rows of the source that were left out, by reason; those that a fraction leaves out
            are not among them.
    """

    source: Source
    positions: Int[np.ndarray, " rows"] | None
    num_rows: int
    tally: Tally

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[Example]:
        rows = self.source.examples("train")
        if self.positions is None:
            return rows
        chosen = np.zeros(int(self.positions[-1]) + 1, dtype=bool)
        chosen[self.positions] = True
        return compress(rows, chosen)  # ends at the last chosen row


def training_examples(source: Source) -> TrainingRows:
    """The rows a run trains on.

    The subset is nested: rows are ranked by a hash of their position, and the first K of that
    ranking are kept, so 10 % of the rows lie inside 30 % of them. `skip_examples` leaves out the
    first rows of the ranking before.

    Raises:
        ValueError: If a row cannot be used, or none is left.
    """
    path = cache_dir() / "rows" / f"{digest(rows_identity(source, 'train'))}.npz"
    found = _remembered(path, source) or _chosen(source)
    if not found.num_rows:
        left_out = ", ".join(f"{count} left out as {why}" for why, count in found.tally.items())
        if source.skip_examples:
            skipped = f"data.skip_examples={source.skip_examples} skips all there are"
            left_out = "; ".join(filter(None, (skipped, left_out)))
        why = f" ({left_out})" if left_out else ""
        raise ValueError(f"data={source.name} has no training rows{why}")
    if not path.exists():
        _remember(path, found)
    return found


def rows_identity(source: Source, split: Split) -> dict[str, Any]:
    """What decides which rows a split has, in a plain form."""
    plain = canonical(source)
    unused = {*_OF_TEMPLATE, *(_OF_CHOICE if split == "test" else ())}
    if not source.decontaminate:
        unused.add("ngram")
    kept = {name: value for name, value in plain.items() if name not in unused}
    return {"version": VERSION, "split": split, **kept}


def _chosen(source: Source) -> TrainingRows:
    tally = Tally()
    positions, total = _usable(source, tally)
    skip = min(source.skip_examples, len(positions))
    rest = len(positions) - skip
    usable = min(rest, source.max_examples or rest)
    keep = math.ceil(Fraction(str(source.fraction)) * usable)
    if keep < len(positions):
        ranks = np.fromiter((_rank(source.subset_seed, int(i)) for i in positions), dtype=np.uint64)
        ranked = np.argsort(ranks, kind="stable")
        positions = np.sort(positions[ranked[skip : skip + keep]])
    return TrainingRows(source, None if keep == total else positions, keep, tally)


def _usable(source: Source, tally: Tally) -> tuple[Int[np.ndarray, " usable"], int]:
    """Positions of the rows that are neither benchmarks' nor doubled, and the number of all."""
    benchmarks = None
    if source.prompt_files:
        from alps.data.decontaminate import BenchmarkPrompts

        benchmarks = BenchmarkPrompts(source.prompt_files, source.ngram)
    positions, digests, total = array("q"), bytearray(), 0
    for total, example in enumerate(source.examples("train", tally), start=1):
        if benchmarks and benchmarks.ask_for(example):
            tally[CONTAMINATED] += 1
            continue
        positions.append(total - 1)
        if source.deduplicate:
            digests += content_digest(example)
    found = np.array(positions, dtype=np.int64)
    if source.deduplicate:
        first = _first_of_each(np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2))
        if len(first) < len(found):
            tally[DUPLICATE] += len(found) - len(first)
        found = found[first]
    return found, total


def content_digest(example: Example) -> bytes:
    """16 bytes that are the same for rows that differ in case and white space only."""
    texts = (" ".join(text.casefold().split()) for text in (example.instruction, example.answer))
    return hashlib.sha256("\0".join(texts).encode()).digest()[:16]


def _first_of_each(digests: UInt64[np.ndarray, "rows 2"]) -> Int[np.ndarray, " first"]:
    """Where each digest stands for the first time, rising."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: of equals the first comes first
    ordered = digests[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.sort(order[new])


def _rank(seed: int, position: int) -> int:
    """The first 64 bits of a hash: who comes first when only some rows are used."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{position}".encode()).digest()[:8], "big")


def _remember(path: Path, rows: TrainingRows) -> None:
    positions = np.zeros(0, dtype=np.int64) if rows.positions is None else rows.positions
    reasons = [why for why, count in rows.tally.items() if count]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            positions=positions,
            num_rows=rows.num_rows,
            reasons=np.array(reasons, dtype=np.str_),
            counts=np.array([rows.tally[why] for why in reasons], dtype=np.int64),
        )


def _remembered(path: Path, source: Source) -> TrainingRows | None:
    """What an earlier pass found; a damaged file counts as nothing and is written again."""
    try:
        with np.load(path, allow_pickle=False) as found:
            positions, num_rows = found["positions"], int(found["num_rows"])
            counts = zip(found["reasons"].tolist(), found["counts"].tolist(), strict=True)
            tally = Tally(dict(counts))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        path.unlink(missing_ok=True)
        return None
    return TrainingRows(source, positions if len(positions) else None, num_rows, tally)
