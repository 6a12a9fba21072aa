"""Rows of MathInstruct: problems with worked solutions, some of them Python programs."""

from alps.data.example import Example
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """A problem (some end by asking for a program) and its solution."""
    return Example(instruction=row.text("instruction"), answer=row.text("output"))
