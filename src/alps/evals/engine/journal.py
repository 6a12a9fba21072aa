"""Answers as they come, so that an evaluation that was killed goes on at the document it had."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any


class Journal:
    """A model's answers to requests, one line each, appended to `answers.<rank>.jsonl`.

    All ranks read what all ranks wrote, so their number may change between two attempts. A file
    that other weights wrote is begun anew; a last line that a kill cut short is dropped.
    """

    def __init__(self, folder: Path, identity: str, rank: int = 0):
        """Reads what is there.

        Args:
            folder: Where the files are.
            identity: Hash of what gives the answers; those of another are not taken for its own.
            rank: Writes to a file of its own.
        """
        self._answers: dict[str, Any] = {}
        self._path = folder / f"answers.{rank}.jsonl"
        self._identity = identity
        self._file: IO[str] | None = None
        for path in sorted(folder.glob("answers.*.jsonl")):
            self._answers.update(_read(path, identity))

    def __contains__(self, request: str) -> bool:
        """Whether a request was answered."""
        return request in self._answers

    def __getitem__(self, request: str) -> Any:
        """The answer to a request, by its hash."""
        return self._answers[request]

    def add(self, request: str, answer: Any) -> None:
        """Keeps an answer, in the file before it is used."""
        if self._file is None:
            self._file = self._begin()
        self._answers[request] = answer
        self._file.write(json.dumps([request, answer]) + "\n")
        self._file.flush()

    def answers(self, requests: Iterable[str]) -> list[Any]:
        """Those to some requests, in their order."""
        return [self._answers[request] for request in requests]

    def close(self) -> None:
        """Ends the file; `add` would open it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> IO[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(self._path)
        if not lines or lines[0] != self._identity:
            lines = [self._identity]
        file = self._path.open("w", encoding="utf-8")  # without a torn last line
        file.writelines(json.dumps(line) + "\n" for line in lines)
        return file


def _read(path: Path, identity: str) -> dict[str, Any]:
    first, *pairs = _whole_lines(path) or [None]
    return dict(pairs) if first == identity else {}


def _whole_lines(path: Path) -> Sequence[Any]:
    """Parsed lines up to the first that is torn."""
    found = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return found
    for line in text.splitlines(keepends=True):
        try:
            found.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith("\n"):
            return found[:-1]
    return found
