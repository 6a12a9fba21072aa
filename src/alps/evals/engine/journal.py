"""Journal of answers, from which a killed evaluation resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any


class Journal:
    """A model's answers to requests, one per line, appended to `answers.<rank>.jsonl`.

    Every rank reads the files of all ranks, so their number may change between attempts. A file
    with another identity is overwritten. A last line that a kill truncated is dropped.
    """

    def __init__(self, folder: Path, identity: str, rank: int = 0):
        """Reads the recorded answers.

        Args:
            folder: Folder of the files.
            identity: Fingerprint of the model that answers; answers of another are ignored.
            rank: This process's rank; each rank writes its own file.
        """
        self._answers: dict[str, Any] = {}
        self._path = folder / f"answers.{rank}.jsonl"
        self._identity = identity
        self._file: IO[str] | None = None
        for path in sorted(folder.glob("answers.*.jsonl")):
            self._answers.update(_read(path, identity))

    def __contains__(self, request: str) -> bool:
        """Whether the answer to a request is recorded."""
        return request in self._answers

    def __getitem__(self, request: str) -> Any:
        """Answer to a request, by the request's hash."""
        return self._answers[request]

    def add(self, request: str, answer: Any) -> None:
        """Records an answer; it is in the file when this returns."""
        if self._file is None:
            self._file = self._open()
        self._answers[request] = answer
        self._file.write(json.dumps([request, answer]) + "\n")
        self._file.flush()

    def answers(self, requests: Iterable[str]) -> list[Any]:
        """Answers in the order of the requests."""
        return [self._answers[request] for request in requests]

    def close(self) -> None:
        """Closes the file; the next `add` reopens it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> IO[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = _complete_lines(self._path)
        if not lines or lines[0] != self._identity:
            lines = [self._identity]
        file = self._path.open("w", encoding="utf-8")  # drops a partial last line
        file.writelines(json.dumps(line) + "\n" for line in lines)
        return file


def _read(path: Path, identity: str) -> dict[str, Any]:
    first, *pairs = _complete_lines(path) or [None]
    return dict(pairs) if first == identity else {}


def _complete_lines(path: Path) -> Sequence[Any]:
    """Parsed lines before the first partial one."""
    lines = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return lines
    for line in text.splitlines(keepends=True):
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith("\n"):
            return lines[:-1]
    return lines
