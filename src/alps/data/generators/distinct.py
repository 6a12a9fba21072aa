"""Rows of a generator, each once, and each in one split only."""

import hashlib
import random
from collections.abc import Callable, Iterator

from alps.data.example import Example, Split


def distinct(
    draw_row: Callable[[random.Random], Example], split: Split, seed: str, num_rows: int
) -> Iterator[Example]:
    """Draws rows until a split is full, keeping each instruction once and in one split only.

    A hash of the instruction says which split it belongs to, so neither split needs the other's
    rows to avoid them, and each row is yielded as soon as it is drawn.
    """
    rng = random.Random(f"{seed} {split}")
    seen: set[str] = set()
    while len(seen) < num_rows:
        row = draw_row(rng)
        is_test = hashlib.sha256(row.instruction.encode()).digest()[0] < 64  # a quarter
        if is_test == (split == "test") and row.instruction not in seen:
            seen.add(row.instruction)
            yield row
