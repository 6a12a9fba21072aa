"""MathInstruct: problems with solutions, some of which are Python programs."""

from alps.data.example import Example
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """A problem, some of which request a program, and its solution."""
    return Example(instruction=row.text("instruction"), answer=row.text("output"))
