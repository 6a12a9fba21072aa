"""Rows of Alpaca and CodeAlpaca: an instruction, often with an input that it speaks of."""

from alps.data.example import Example, with_input
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """The input is appended to the instruction where there is one."""
    instruction = with_input(row.text("instruction"), row.text("input"))
    return Example(instruction=instruction, answer=row.text("output"))
