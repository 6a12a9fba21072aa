"""Rows of any files whose fields the user names."""

from dataclasses import dataclass

from alps.data.example import Example
from alps.data.table import MissingField, Row, RowSource, UnusableRow


@dataclass(frozen=True, kw_only=True)
class Jsonl(RowSource):
    """A field with the instruction, one with the answer; JSON Lines or another kind of file.

    Attributes:
        instruction_field: Field with the instruction.
        input_field: Optional field that is appended to the instruction where it isn't empty.
        answer_field: Field with the answer.
    """

    instruction_field: str = "instruction"
    input_field: str | None = "input"
    answer_field: str = "output"

    def read(self, row: Row) -> Example:
        """Instruction (and input) and answer of the named fields."""
        instruction = _text(row, self.instruction_field, "instruction_field")
        if self.input_field and row.get(self.input_field):
            extra = _text(row, self.input_field, "input_field")
            instruction = f"{instruction}\n\n{extra}"
        answer = _text(row, self.answer_field, "answer_field")
        return Example(instruction=instruction, answer=answer)


def _text(row: Row, name: str, setting: str) -> str:
    try:
        return row.text(name)
    except MissingField as error:
        raise UnusableRow(f"{error}: set data.{setting}") from None
