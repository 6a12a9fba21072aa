"""Shuffles GPQA's choices by question, the same way in every process."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def shuffle_choices(documents: Dataset) -> Dataset:
    """Adds `choice1` to `choice4` and the letter of the right one.

    lm-eval's own function shuffles with Python's global generator whenever it reads the documents:
    once for the requests and once for the scores. Here the order is a function of the question.

    Args:
        documents: As published.
    """
    from datasets import Dataset

    return Dataset.from_list([_shuffled(dict(row)) for row in documents])  # pyright: ignore


def _shuffled(row: dict[str, Any]) -> dict[str, Any]:
    right = _cleaned(row["Correct Answer"])
    choices = [*(_cleaned(row[name]) for name in WRONG), right]
    random.Random(row["Question"]).shuffle(choices)
    numbered = {f"choice{number}": choice for number, choice in enumerate(choices, start=1)}
    return {**row, **numbered, "answer": f"({'ABCD'[choices.index(right)]})"}


def _cleaned(text: str) -> str:
    """Cleans a choice as lm-eval does."""
    return text.strip().replace(" [title]", ". ").replace("  ", " ")
