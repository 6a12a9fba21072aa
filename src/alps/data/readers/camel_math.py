"""CAMEL math: a problem and its solution as the messages of two agents."""

from alps.data.example import Example
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """The first message is the problem, the second the solution."""
    return Example(instruction=row.text("message_1"), answer=row.text("message_2"))
