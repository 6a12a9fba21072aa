"""Rows of Magicoder's two sets, Evol-Instruct and OSS-Instruct, whose columns differ in name."""

from alps.data.example import Example
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row, instruction: str = "instruction", answer: str = "response") -> Example:
    """A programming task and its solution.

    Args:
        row: One row.
        instruction: Name of the column with the task.
        answer: Name of the column with the solution.
    """
    return Example(instruction=row.text(instruction), answer=row.text(answer))
