"""Rows of Alpaca and CodeAlpaca: an instruction, often with an input that it speaks of."""

from alps.data.example import Example
from alps.data.table import Row

VERSION = 1


def read(row: Row) -> Example:
    """The input is appended to the instruction where there is one."""
    instruction, extra = row.text("instruction"), row.text("input")
    if instruction.strip() and extra.strip():
        instruction = f"{instruction}\n\n{extra}"
    return Example(instruction=instruction, answer=row.text("output"))
