"""Distinct examples of a generator, each in one split only."""

import hashlib
import random
from collections.abc import Callable, Iterator

from alps.data.example import Example, Split


def distinct(
    draw: Callable[[random.Random], Example], split: Split, seed: str, num_examples: int
) -> Iterator[Example]:
    """Draws examples until a split is complete, with each instruction once and in one split only.

    A hash of the instruction determines its split. So the splits are disjoint without knowing each
    other, and each example is yielded as soon as it is drawn.
    """
    rng = random.Random(f"{seed} {split}")
    seen: set[str] = set()
    while len(seen) < num_examples:
        example = draw(rng)
        is_test = hashlib.sha256(example.instruction.encode()).digest()[0] < 64  # a quarter
        if is_test == (split == "test") and example.instruction not in seen:
            seen.add(example.instruction)
            yield example
