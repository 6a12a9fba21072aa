"""Rows of a local JSON Lines file."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.data.example import Example, Split, Tally
from alps.families import Source
from alps.identity import file_hash


@dataclass(frozen=True, kw_only=True)
class Jsonl(Source):
    """One JSON object a line; field names can be chosen.

    Attributes:
        instruction_field: Field with the instruction.
        input_field: Optional field that is appended to the instruction where it isn't empty.
        answer_field: Field with the answer.
        test_fraction: Share of rows held out; a hash of the row's text decides, so that a row
            never moves between the splits when others come or go.
    """

    instruction_field: str = "instruction"
    input_field: str | None = "input"
    answer_field: str = "output"
    test_fraction: float = 0.05

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        yield from super().problems()
        if self.path is None:
            yield "data=jsonl needs a file: set data.path=<file.jsonl>"
        elif not Path(self.path).is_file():
            yield f"data.path={self.path} does not exist"
        if not 0 <= self.test_fraction < 1:
            yield f"data.test_fraction must lie in [0, 1), got {self.test_fraction}"

    def fingerprint(self) -> str:
        """Hash of the file."""
        assert self.path is not None
        return file_hash(Path(self.path))

    def examples(self, split: Split, tally: Tally | None = None) -> Iterator[Example]:
        """The file's rows that belong to the split, in the file's order."""
        assert self.path is not None
        threshold = int(self.test_fraction * 2**32)
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                example = self._example(line, number)
                text = f"{example.instruction}\0{example.answer}".encode()
                bucket = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
                if (bucket < threshold) == (split == "test"):
                    yield example

    def _example(self, line: bytes, number: int) -> Example:
        place = f"row {number} of {self.path}"
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise ValueError(f"{place} is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{place} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{place} is not a JSON object")
        instruction = self._text(row, self.instruction_field, "instruction_field", place)
        if self.input_field and row.get(self.input_field):
            extra = self._text(row, self.input_field, "input_field", place)
            instruction = f"{instruction}\n\n{extra}"
        answer = self._text(row, self.answer_field, "answer_field", place)
        return Example(instruction=instruction, answer=answer)

    def _text(self, row: dict[str, Any], name: str, setting: str, place: str) -> str:
        if name not in row:
            has = ", ".join(map(str, row)) or "none"
            raise ValueError(f"{place} has no field '{name}' (it has: {has}): set data.{setting}")
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f"{place} has an empty or non-text field '{name}'")
        try:
            row[name].encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            raise ValueError(f"{place} has half a character in field '{name}'") from None
        return row[name]
