"""Training sets made of rows: files on this machine or on the hub, and what becomes of each row.

A set is a YAML that names a reader, a module of this package with one function `read(row)` that
makes an example (or several) of a row. All else is here: finding and fetching the files, messages
with the number of the row, the test split, and the tally of rows that cannot be used.
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
from alps.data.example import Example, Split, Tally
from alps.data.files.read import content_hash, read_rows, row_files
from alps.data.files.splits import RowFile, split_files
from alps.settings.interfaces import Source


class UnusableRow(ValueError):
    """What is wrong with a row; the place of the row comes before it."""


class MissingField(UnusableRow):
    """A column that the row should have; told with those it has."""


class Row(dict[str, Any]):
    """A row by column names; a name it lacks is an error that lists those it has."""

    def __missing__(self, name: str) -> Any:
        has = ", ".join(map(str, self)) or "none"
        raise MissingField(f"has no field '{name}' (it has: {has})")

    def text(self, name: str) -> str:
        """The text in a column; nothing is an empty text.

        Raises:
            UnusableRow: If there is no such column, or no text in it.
        """
        value = self[name]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UnusableRow(f"has a field '{name}' that is no text")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            raise UnusableRow(f"has half a character in field '{name}'") from None
        return value


@dataclass(frozen=True, kw_only=True)
class RowSource(Source):
    """Rows of files: `path` on this machine, else those of a dataset on the hub.

    Attributes:
        hub: Hub id of the dataset.
        revision: Its branch, tag or commit, as written.
        files: Names of the files with rows in the dataset or in a folder (`data/train-*`), or
            nothing for all. Of a local copy in which no name fits all files are read.
        split: The split to read, told by the names of the files as `datasets` tells it.
        num_rows: Rows that the dataset has at that commit, or None where nobody counted.
        licence: Licence of the rows, as the dataset's page gives it.
        test_fraction: Share of rows held out; a hash of the row's text decides, so that a row
            never moves between the splits when others come or go.
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
        """What a row teaches; an example with an empty part is left out and counted.

        Raises:
            UnusableRow: What is wrong with the row.
        """

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
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
        """Content of the files, or id, revision and names of those on the hub; and the split."""
        split = "" if self.split == "train" else f" {self.split}"
        if self.path is not None:
            files = [file.path for file in self._local_files(Path(self.path))]
            return content_hash(Path(self.path), files) + split
        return "/".join((f"{self.hub}@{self.revision}", ",".join(self.files) or "*")) + split

    def commit(self) -> str | None:
        """The commit of the dataset on the hub, which is fetched if it is not in the cache."""
        return None if self.path is not None else self._snapshot().name

    def examples(self, split: Split, tally: Tally | None = None) -> Iterator[Example]:
        """The usable rows that belong to the split, in the order of the files.

        Raises:
            ValueError: One sentence, with the row's number, where a row cannot be read; also if
                no row is usable, or if the dataset has not as many rows as it should.
        """
        threshold = int(self.test_fraction * 2**32)
        num_rows, num_usable, unusable = 0, 0, Tally()
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
            except UnusableRow as error:
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
                elif belongs and tally is not None:
                    tally[reason or ""] += 1
        if columns:
            self.check_columns(columns)
        self._check_numbers(num_rows, num_usable, unusable)

    def check_columns(self, columns: Collection[str]) -> None:
        """Refuses rows of which none has a column that the settings name.

        Args:
            columns: Those that any row has.

        Raises:
            ValueError: One sentence.
        """

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows of the files, each with its place in words."""
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

    def _local_files(self, path: Path) -> list[RowFile]:
        patterns = self.files
        if self.hub is not None and patterns:
            try:
                row_files(path, patterns)
            except ValueError:
                patterns = ()
        return split_files(path, patterns, self.split)

    @property
    def where(self) -> str:
        """The path, or id and revision on the hub, for messages."""
        return self.path or self._at

    @property
    def _at(self) -> str:
        return f"{self.hub}@{self.revision[:12]}"

    def _check_numbers(self, num_rows: int, num_usable: int, unusable: Tally) -> None:
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
class Table(RowSource):
    """A set whose rows a module of this package reads.

    Attributes:
        reader: Module in `alps.data`, or the full name of one elsewhere, with `read(row)` and a
            `VERSION` that rises whenever it makes something else of a row.
        options: Options of that function.
    """

    reader: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
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
        """Content of the rows, and the version of what is made of them."""
        return f"{super().fingerprint()} {self.reader}-v{_module(self.reader).VERSION}"

    def read(self, row: Row) -> Example | Iterable[Example]:
        """What the reader makes of the row."""
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
