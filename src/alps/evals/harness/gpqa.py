"""GPQA's choices in an order of their own for every question, the same in every process."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def shuffled(rows: Dataset) -> Dataset:
    """Rows with `choice1` to `choice4` and the letter of the right one.

    The harness shuffles with the state of Python's random numbers whenever it reads the documents,
    which it does once to ask and once more to judge. Here the order follows from the question.

    Args:
        rows: As published.
    """
    from datasets import Dataset

    return Dataset.from_list([_shuffled(dict(row)) for row in rows])  # pyright: ignore


def _shuffled(row: dict[str, Any]) -> dict[str, Any]:
    right = _cleaned(row["Correct Answer"])
    choices = [*(_cleaned(row[name]) for name in WRONG), right]
    random.Random(row["Question"]).shuffle(choices)
    numbered = {f"choice{number}": choice for number, choice in enumerate(choices, start=1)}
    return {**row, **numbered, "answer": f"({'ABCD'[choices.index(right)]})"}


def _cleaned(text: str) -> str:
    """As the harness cleans a choice."""
    return text.strip().replace(" [title]", ". ").replace("  ", " ")
