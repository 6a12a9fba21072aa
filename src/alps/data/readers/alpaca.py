"""Alpaca and CodeAlpaca: an instruction, often with an input."""

from alps.data.example import Example, with_input
from alps.data.sources.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """The instruction, followed by the input if any, and the output."""
    instruction = with_input(row.text("instruction"), row.text("input"))
    return Example(instruction=instruction, answer=row.text("output"))
