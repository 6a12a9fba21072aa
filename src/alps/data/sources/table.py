"""Datasets of rows: local files or files on the hub, and their conversion to examples.

The YAML of a dataset names a reader, a module with one function `read(row)` that returns an example
or several. This module adds the rest: location and download of files, messages with the number of
the row, the test split, and counts of dropped examples.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from alps.base.key import excluded_from_key
from alps.base.serialization import argument_types, did_you_mean, value_problems
from alps.data.example import DropCounts, Example, Split
from alps.data.files.json_text import Rows
from alps.data.files.read import content_hash, read_rows, row_files
from alps.data.files.splits import DataFile, split_files
from alps.settings.interfaces import Source


class InvalidRow(ValueError):
    """The defect of a row, without its location."""


class MissingField(InvalidRow):
    """A missing column; the message lists those of the row."""


class Row(dict[str, Any]):
    """Values by column name; a missing name is an error that lists the columns."""

    def __missing__(self, name: str) -> Any:
        has = ", ".join(map(str, self)) or "none"
        raise MissingField(f"has no field '{name}' (it has: {has})")

    def text(self, name: str) -> str:
        """Text of a column; null is the empty text.

        Raises:
            InvalidRow: If the column is missing or no text.
        """
        value = self[name]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidRow(f"has a field '{name}' that is no text")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            raise InvalidRow(f"has half a character in field '{name}'") from None
        return value


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """Data files: a local `path`, or those of a dataset on the hub.

    Attributes:
        hub: Hub id of the dataset.
        revision: Branch, tag or commit, as written.
        files: Names of data files in the dataset or folder (`data/train-*`); empty for all. All
            files of a local copy are read if no name matches.
        split: The split to read, by the file names that `datasets` recognizes.
        num_rows: Number of rows at that commit, or None if unknown.
        licence: Licence on the page of the dataset.
        test_fraction: Held-out share of the examples. A hash of the text decides, so an example
            never changes its split when others are added or removed.
    """

    hub: str | None = excluded_from_key()
    revision: str = excluded_from_key("main")
    files: tuple[str, ...] = excluded_from_key(())
    split: str = excluded_from_key("train")
    num_rows: int | None = excluded_from_key()
    licence: str | None = excluded_from_key()
    test_fraction: float = 0.05

    @abstractmethod
    def read(self, row: Row) -> Example | Iterable[Example]:
        """Example or examples of a row; the caller drops and counts empty ones.

        Raises:
            InvalidRow: If the row has a defect.
        """

    def problems(self) -> Iterator[str]:
        """Error sentences about the settings."""
        yield from super().problems()
        if self.path is None and self.hub is None:
            yield f"data={self.name} needs a file: set data.path=<file.jsonl>"
        elif self.path is not None and not os.path.exists(self.path):
            yield f"data.path={self.path} does not exist"
        elif self.path is not None:
            try:
                self._local_files(Path(self.path))
            except ValueError as error:
                yield f"data.path: {error}"
        if not 0 <= self.test_fraction < 1:
            yield f"data.test_fraction must lie in [0, 1), got {self.test_fraction}"

    def fingerprint(self) -> str:
        """Content hash of local files, or id, revision and names on the hub; and the split."""
        split = "" if self.split == "train" else f" {self.split}"
        if self.path is not None:
            files = [file.path for file in self._local_files(Path(self.path))]
            return content_hash(Path(self.path), files) + split
        return "/".join((f"{self.hub}@{self.revision}", ",".join(self.files) or "*")) + split

    def commit(self) -> str | None:
        """Commit of the dataset on the hub, which is downloaded unless cached."""
        return None if self.path is not None else self._snapshot().name

    def examples(self, split: Split, dropped: DropCounts | None = None) -> Iterator[Example]:
        """Examples of the split, in the order of the files.

        Raises:
            ValueError: One sentence with the row's number, if a row cannot be read; also if no row
                is usable, or the dataset does not have `num_rows` rows.
        """
        threshold = int(self.test_fraction * 2**32)
        num_rows, num_usable, unusable = 0, 0, DropCounts()
        columns: set[str] = set()
        for place, row in self.rows():
            num_rows += 1
            columns.update(row)
            try:
                read = self.read(Row(row))
                found = [read] if isinstance(read, Example) else list(read)
            except MissingField as error:
                other = f"so it is no row of data={self.name}: data=jsonl reads fields of any name"
                raise ValueError(f"{place} {error}, {other}") from None
            except InvalidRow as error:
                raise ValueError(f"{place} {error}") from None
            if not found:
                unusable["no example"] += 1
                continue
            belongs = (_bucket(found[0]) < threshold) == (split == "test")
            for example in found:
                reason = _reason_to_drop(example)
                num_usable += reason is None
                if reason is not None:
                    unusable[reason] += 1
                if belongs and reason is None:
                    yield example
                elif belongs and dropped is not None:
                    dropped[reason or ""] += 1
        if columns:
            self.check_columns(columns)
        self._check_numbers(num_rows, num_usable, unusable)

    def check_columns(self, columns: Collection[str]) -> None:
        """Refuses settings that name a column without occurrence.

        Args:
            columns: All columns of all rows.

        Raises:
            ValueError: One sentence.
        """

    def rows(self) -> Rows:
        """Rows of the files with their location for messages."""
        if self.path is not None:
            for file in self._local_files(Path(self.path)):
                yield from read_rows(file.path, members=file.members)
            return
        folder = self._snapshot()
        for file in split_files(folder, self.files, self.split, self._at):
            name = f"{file.path.relative_to(folder)} of {self._at}"
            yield from read_rows(file.path, name, file.members)

    def _snapshot(self) -> Path:
        from alps.data.files.hub import download  # its client takes half a second to import

        assert self.hub is not None
        return download(self.hub, self.revision, self.files)

    def _local_files(self, path: Path) -> list[DataFile]:
        patterns = self.files
        if self.hub is not None and patterns:
            try:
                row_files(path, patterns)
            except ValueError:
                patterns = ()
        return split_files(path, patterns, self.split)

    @property
    def where(self) -> str:
        """Name in messages: the path, or id and revision on the hub."""
        return self.path or self._at

    @property
    def _at(self) -> str:
        return f"{self.hub}@{self.revision[:12]}"

    def _check_numbers(self, num_rows: int, num_usable: int, unusable: DropCounts) -> None:
        pinned = self.path is None and re.fullmatch("[0-9a-f]{40}", self.revision)
        if pinned and self.num_rows not in (None, num_rows):
            raise ValueError(
                f"{self.where} has {num_rows} rows where data.num_rows={self.num_rows} expects "
                "others: delete its folder in the hub cache to fetch it again, or set "
                "data.num_rows=null"
            )
        if num_rows and not num_usable:
            why = ", ".join(f"{count} {reason}" for reason, count in unusable.most_common())
            raise ValueError(f"none of the {num_rows} rows of {self.where} can be used ({why})")


@dataclass(frozen=True, kw_only=True)
class Table(FileSource):
    """A dataset whose rows a reader module converts to examples.

    Attributes:
        reader: Module in `alps.data.readers`, or a full module name, with `read(row)` and a
            `VERSION` that increases when the conversion changes.
        options: Keyword arguments of that function.
    """

    reader: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Error sentences about the settings."""
        yield from super().problems()
        try:
            read = _module(self.reader).read
        except (ImportError, AttributeError) as error:
            yield f"data.reader={self.reader} is no module with a function read(row) ({error})"
            return
        types = argument_types(read)
        for name, value in self.options.items():
            where = f"data.options.{name}"
            if name in types:
                yield from value_problems(value, types[name], where)
            else:
                yield f"{where} is not a setting{did_you_mean(name, types)}"

    def fingerprint(self) -> str:
        """Content hash of the files and version of the reader."""
        return f"{super().fingerprint()} {self.reader}-v{_module(self.reader).VERSION}"

    def read(self, row: Row) -> Example | Iterable[Example]:
        """Result of the reader."""
        return _module(self.reader).read(row, **self.options)


@cache
def _module(reader: str) -> ModuleType:
    own = f"alps.data.readers.{reader}"
    return import_module(own if find_spec(own) else reader)


def _bucket(example: Example) -> int:
    text = f"{example.instruction}\0{example.answer}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def _reason_to_drop(example: Example) -> str | None:
    if not example.instruction.strip():
        return "empty instruction"
    return None if example.answer.strip() else "empty answer"
