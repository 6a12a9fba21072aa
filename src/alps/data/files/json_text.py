"""Incremental JSON reader: JSON Lines, a list of objects, or a single object.

The reader of `datasets` infers one schema for all rows: it reads dates as timestamps, fills missing
fields with nulls, and reports no row number. Lists it parses in memory.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any, NoReturn

HEAD = 1 << 12  # bytes to detect the format
CHUNK = 1 << 16  # bytes of a list per read
MAX_ROW = 1 << 26  # characters of a value; a longer one is a syntax error

Rows = Iterator[tuple[str, dict[str, Any]]]
"""Rows with their location for messages."""


class DuplicateField(ValueError):
    """An object has a name twice; Python's parser would keep the last value."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise DuplicateField(f"has two fields named '{name}'")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def json_rows(file: IO[bytes], name: str, in_lines: bool) -> Rows:
    """Objects of a file with their location for messages; blank lines count as rows.

    Args:
        file: The file, from its start.
        name: Name of the file in messages.
        in_lines: Whether the file is JSON Lines; otherwise its first line decides.

    Raises:
        ValueError: One sentence with the row's number, if the file is not JSON or not UTF-8.
    """
    is_list = None if in_lines else _is_list(file)
    if is_list is None:
        yield from _lines(file, name)
    elif is_list:
        yield from _list(file, name)
    else:
        place = f"row 1 of {name}"
        yield place, _decoded(file.read().removeprefix(codecs.BOM_UTF8), place)


def _is_list(file: IO[bytes]) -> bool | None:
    """Whether a .json file is a list (True), one object (False), or JSON Lines (None)."""
    head = file.read(HEAD)
    content = head.lstrip(codecs.BOM_UTF8 + b" \t\r\n")
    file.seek(len(head) - len(content))
    first = b"" if content.startswith(b"[") else file.readline(MAX_ROW)
    file.seek(0)
    if not content:
        return None
    if not first:
        return True
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return None


def _lines(file: IO[bytes], name: str) -> Rows:
    for number, line in enumerate(file, start=1):
        if line.strip():
            place = f"row {number} of {name}"
            yield place, _decoded(line.removeprefix(codecs.BOM_UTF8 * (number == 1)), place)


def _decoded(text: bytes, place: str) -> dict[str, Any]:
    try:
        row = _DECODER.decode(text.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8 text") from None
    except DuplicateField as error:
        raise ValueError(f"{place} {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON ({error})") from None
    return _object(row, place)


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{place} is not a JSON object")
    return row


def _list(file: IO[bytes], name: str) -> Rows:
    """Objects of a JSON list, decoded one by one."""
    text = _Text(file)
    number = 1
    text.skip("[")
    while not text.skip("]"):
        place = f"row {number} of {name}"
        if number > 1 and not text.skip(","):
            text.fail(place, "there is no ',' before it")
        yield place, _object(text.value(place), place)
        number += 1
    if text.peek():
        raise ValueError(f"{name} goes on after the end of its list")


class _Text:
    """A window over the text of a file, which grows until it contains a complete value."""

    def __init__(self, file: IO[bytes]):
        self.file, self.window, self.start = file, "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.ended = self.broken = False
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)

    def more(self, size: int = 0) -> bool:
        """Extends the window; False at the end of the text."""
        if self.ended:
            return False
        data = self.file.read(max(size, CHUNK))
        self.ended = not data
        try:
            text = self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:  # the text before it is valid
            text = error.object[: error.start].decode()
            self.ended = self.broken = True
        self.window, self.start = self.window[self.start :] + text, 0
        return bool(text) or not self.ended

    def peek(self) -> str:
        """The next character that is not white space, empty at the end."""
        while True:
            while self.start < len(self.window):
                if not self.window[self.start].isspace():
                    return self.window[self.start]
                self.start += 1
            if not self.more():
                return ""

    def skip(self, mark: str) -> bool:
        """Skips the mark if it comes next."""
        found = self.peek() == mark
        self.start += found
        return found

    def value(self, place: str) -> Any:
        """Decodes the next JSON value."""
        self.peek()
        while True:
            try:
                value, self.start = _DECODER.raw_decode(self.window, self.start)
                return value
            except DuplicateField as error:
                raise ValueError(f"{place} {error}") from None
            except (ValueError, RecursionError) as error:
                # Doubling bounds the number of attempts at a long value.
                size = len(self.window) - self.start
                if size < MAX_ROW and self.more(size):
                    continue
                self.fail(place, str(error).split(":")[0])

    def fail(self, place: str, problem: str) -> NoReturn:
        """Raises the error of a missing value."""
        if self.broken:
            raise ValueError(f"{place} is not UTF-8 text") from None
        if not self.peek():
            raise ValueError(f"{place} is cut off: the file ends before its list does") from None
        raise ValueError(f"{place} is not JSON ({problem})") from None
