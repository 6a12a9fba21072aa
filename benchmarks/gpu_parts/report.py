"""Tables, and measurements that may fail without taking the others with them."""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alps.base.log_levels import log_level

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GIB = 2**30
DASH = "—"
OUT_OF_MEMORY = "out of memory"
MEMORY_ERRORS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""Texts of errors that are no `torch.OutOfMemoryError`: of libraries, and on a CPU."""


@dataclass(frozen=True)
class Failure:
    """Why a cell has no number."""

    text: str


class Report:
    """Sizes of the measurements, and the report as it grows."""

    def __init__(self, given: argparse.Namespace):
        """Sizes from the arguments; with `--tiny` the smallest ones."""
        self.tiny, self.out = given.tiny, given.out
        self.scratch: Path | None = given.scratch
        self.models: list[str] = ["tiny"] if given.tiny else given.models
        self.rounds, self.steps = (2, 2) if given.tiny else (given.rounds, given.steps)
        self.warmup = 1 if given.tiny else 2
        self.rows, self.length = (3, 24) if given.tiny else (given.rows, given.length)
        self.failed: list[str] = []
        self._lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Prints lines, and writes the report again."""
        print("\n".join(lines), flush=True)
        self._lines += lines
        if self.out:
            self.out.write_text("\n".join(self._lines) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A Markdown table."""
        self.say("", f"### {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns))
        self.say(*(f"| {' | '.join(map(str, row))} |" for row in rows))

    def attempt(self, what: str, measure: Callable[[], Any]) -> Any:
        """What `measure` returns, or a `Failure`; what earlier ones left is freed first."""
        free_memory()
        try:
            with _quiet():
                return measure()
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if is_out_of_memory(error):
                return Failure(OUT_OF_MEMORY)
            self.failed.append(f"{what}: {text}")
            return Failure(f"failed: {text.replace('|', '/')}")

    def in_rounds(
        self, title: str, ways: Mapping[str, Callable[[], Any]], rounds: int | None = None
    ) -> dict[str, list[Any] | Failure]:
        """Measures every way once a round, in another order each time.

        Args:
            title: Of the table, for messages.
            ways: Name -> measurement; one that failed is not repeated.
            rounds: Number of rounds; None for those of the report.
        """
        found: dict[str, list[Any] | Failure] = {way: [] for way in ways}
        for number in range(rounds or self.rounds):
            for way in list(ways)[:: 1 if number % 2 == 0 else -1]:
                earlier = found[way]
                if isinstance(earlier, Failure):
                    continue
                result = self.attempt(f"{title}, {way}", ways[way])
                found[way] = result if isinstance(result, Failure) else [*earlier, result]
        return found


@contextmanager
def _quiet() -> Iterator[None]:
    """No tips and warnings of other libraries in the report."""
    with log_level(logging.ERROR, "pytorch_lightning", "lm_eval"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine was exhausted."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        text in str(error) for text in MEMORY_ERRORS
    )


def free_memory() -> None:
    """Returns what nobody refers to any more to the device."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def clock(work: Callable[[], Any]) -> float:
    """Seconds of one call, the device's work included."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Waits for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def median_seconds(work: Callable[[], Any], times: int = 10) -> float:
    """Median seconds of a call, after two that warm up."""
    work()
    work()
    return statistics.median(clock(work) for _ in range(times))


def gibibytes(count: float) -> str:
    """A number of bytes for a table; small ones keep their digits."""
    return f"{count / GIB:.2f}" if count >= GIB / 10 else f"{count / GIB:.4f}"
