"""Data files with fields that the user names."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from alps.data.example import Example, with_input
from alps.data.sources.table import FileSource, InvalidRow, MissingField, Row

VERSION = 2
"""Increases when the conversion of a row changes."""

DEFAULT_INPUT = "input"


@dataclass(frozen=True, kw_only=True)
class Jsonl(FileSource):
    """Rows with a field for the instruction and one for the answer, of JSON Lines or other files.

    Attributes:
        instruction_field: Field of the instruction.
        input_field: Field appended to the instruction if it is not empty. The default is optional;
            any other name must occur in some row.
        answer_field: Field of the answer.
    """

    instruction_field: str = "instruction"
    input_field: str | None = DEFAULT_INPUT
    answer_field: str = "output"

    def problems(self) -> Iterator[str]:
        """Error sentences about the settings."""
        yield from super().problems()
        roles = ("instruction_field", "answer_field", "input_field")
        named = [(role, getattr(self, role)) for role in roles]
        if self._input is None:
            del named[2]
        for i, (role, name) in enumerate(named):
            for other in (first for first, column in named[:i] if column == name):
                yield f"data.{other} and data.{role} are both '{name}': name two fields"

    def fingerprint(self) -> str:
        """Content hash of the files and version of the conversion."""
        return f"{super().fingerprint()} jsonl-v{VERSION}"

    def read(self, row: Row) -> Example:
        """Instruction, with its input if any, and answer."""
        instruction = _text(row, self.instruction_field, "instruction_field")
        if (name := self._input) is not None and name in row:
            instruction = with_input(instruction, row.text(name))
        answer = _text(row, self.answer_field, "answer_field")
        return Example(instruction=instruction, answer=answer)

    def check_columns(self, columns: Collection[str]) -> None:
        """Refuses an input field that occurs in no row.

        Raises:
            ValueError: One sentence with the unused text fields.
        """
        if self._input in (None, DEFAULT_INPUT, *columns):
            return
        texts = {n: None for _, row in self.rows() for n, v in row.items() if isinstance(v, str)}
        unused = [n for n in texts if n not in (self.instruction_field, self.answer_field)]
        raise ValueError(
            f"no row of {self.where} has the field '{self._input}': set data.input_field to null "
            f"or to a text field that nothing reads (there is: {', '.join(unused) or 'none'})"
        )

    @property
    def _input(self) -> str | None:
        taken = (self.instruction_field, self.answer_field)
        default = self.input_field == DEFAULT_INPUT
        return None if default and DEFAULT_INPUT in taken else self.input_field


def _text(row: Row, name: str, setting: str) -> str:
    try:
        return row.text(name)
    except MissingField as error:
        raise InvalidRow(f"{error}: set data.{setting}") from None
