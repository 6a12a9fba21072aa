"""Magicoder's Evol-Instruct and OSS-Instruct, whose columns have different names."""

from alps.data.example import Example
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row, instruction: str = "instruction", answer: str = "response") -> Example:
    """A programming task and its solution.

    Args:
        row: One row.
        instruction: Column of the task.
        answer: Column of the solution.
    """
    return Example(instruction=row.text(instruction), answer=row.text(answer))
