"""Encoded rows as memory-mapped files, made once for each (rows, tokenizer, template, length).

An entry of the cache is a folder: token ids of all rows behind each other, where each row begins,
where its answer begins, and `facts.json`, which is written last and has a checksum of each file.
It is built beside its place and renamed, so there is never half of one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int

from alps.base.atomic import write_json
from alps.base.cache import cache_dir, cache_lock
from alps.base.hashing import digest
from alps.base.progress import ProgressMode, track_progress
from alps.data.encoding.array_file import ArrayFile, mapped
from alps.data.encoding.encode import EncodedChunk, EncodedRow, Rule, backend_of, rule_of
from alps.data.encoding.pool import encode_chunks
from alps.data.example import Example, Split, Tally
from alps.data.subset import rows_identity, training_examples
from alps.data.template import chunks, render
from alps.settings.interfaces import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

FORMAT = 1
"""Raised when the files, or what is in them for the same settings, change."""

TOO_LONG = "too long"


class EncodedRows(Sequence[EncodedRow]):
    """Encoded rows; only those that are asked for are in memory."""

    def __init__(
        self,
        ids: Int[np.ndarray, " tokens"],
        offsets: Int[np.ndarray, " rows+1"],
        answer_starts: Int[np.ndarray, " rows"],
        tally: Tally | None = None,
        num_truncated: int = 0,
    ):
        """Takes over the arrays.

        Args:
            ids: Token ids of all rows, one row behind the other.
            offsets: Where each row begins in them, and where the last one ends.
            answer_starts: Where each answer begins in its row.
            tally: Rows that were left out, by reason.
            num_truncated: Rows whose instruction was cut.
        """
        self._ids, self._offsets, self._answer_starts = ids, offsets, answer_starts
        self.tally, self.num_truncated = tally or Tally(), num_truncated

    @classmethod
    def of(cls, rows: Sequence[EncodedRow]) -> EncodedRows:
        """Rows that are in memory already."""
        offsets = np.cumsum([0, *(len(row.ids) for row in rows)])
        starts = np.array([row.answer_start for row in rows], dtype=np.int64)
        return cls(np.array([i for row in rows for i in row.ids], dtype=np.int64), offsets, starts)

    def __len__(self) -> int:
        return len(self._answer_starts)

    @overload
    def __getitem__(self, index: int) -> EncodedRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedRow]: ...
    def __getitem__(self, index: int | slice) -> EncodedRow | list[EncodedRow]:
        """A row, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = int(self._answer_starts[index])  # refuses what is no row
        first = index % len(self)
        ids = self._ids[self._offsets[first] : self._offsets[first + 1]]
        return EncodedRow(ids.tolist(), start)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row."""
        return np.diff(self._offsets)

    @cached_property
    def num_answers(self) -> Int[np.ndarray, " rows"]:
        """Answer tokens of each row, end-of-text included."""
        return self.lengths - self._answer_starts

    @property
    def num_dropped(self) -> int:
        """Rows that were left out, for whatever reason."""
        return sum(self.tally.values())


def encoded_rows(
    source: Source,
    tokenizer: Tokenizer,
    split: Split = "train",
    limit: int | None = None,
    progress: ProgressMode = "off",
    context: int | None = None,
) -> EncodedRows:
    """The rows of a source as token ids, from the cache if they are there.

    Args:
        source: Where rows come from, with template and length.
        tokenizer: The model's.
        split: `train` (the rows a run trains on), or `test`.
        limit: Only so many rows of the test split, from its beginning.
        progress: How a build that takes long is shown.
        context: The model's context in tokens: a row that is longer is longer than it may be,
            whatever `data.max_length` is.

    Raises:
        ValueError: If a row cannot be used, or none is left.
    """
    assert split == "test" or limit is None
    longest = most_tokens(source, context)
    rule = rule_of(tokenizer, source.template, longest, source.too_long)
    identity = _identity(source, tokenizer, rule, split, limit)
    folder = cache_dir() / "encoded" / digest(identity)
    found = _opened(folder)
    if found is None:
        with cache_lock(f"encoded-{folder.name[:16]}"):
            found = _opened(folder)  # another process may have built it meanwhile
            if found is None:
                _build(folder, source, tokenizer, rule, split, limit, progress)
                found = _opened(folder)
                assert found is not None, f"{folder} was damaged as soon as it was written"
    return found


def most_tokens(source: Source, context: int | None) -> int:
    """Most tokens of a row: `data.max_length`, or the model's context if that is less."""
    return source.max_length if context is None else min(source.max_length, context)


def beyond_context(rows: EncodedRows, source: Source, context: int | None) -> str | None:
    """A sentence if rows were cut or left out because the model's context is short, else None."""
    changed = rows.num_truncated + rows.tally[TOO_LONG]
    if not changed or context is None or source.max_length <= context:
        return None
    return (
        f"data={source.name}: {changed} rows are longer than the model's context of {context} "
        f"tokens and were cut to it or left out, as if data.max_length={source.max_length} were "
        f"{context}"
    )


def _identity(
    source: Source, tokenizer: Any, rule: Rule, split: Split, limit: int | None
) -> dict[str, Any]:
    """Everything that the files depend on."""
    if tokenizer.is_fast:
        content = json.loads(backend_of(tokenizer))
        content |= {"truncation": None, "padding": None}  # what a call left behind
    else:
        with TemporaryDirectory() as place:
            tokenizer.save_pretrained(place)
            content = {f.name: f.read_bytes().hex() for f in sorted(Path(place).iterdir())}
    return {
        "format": FORMAT,
        "rows": rows_identity(source, split),
        "limit": limit,
        "tokenizer": content,
        "library": version("tokenizers" if tokenizer.is_fast else "transformers"),
        "rule": rule._asdict(),
        "prompt": render(rule.template, ["instruction"], tokenizer)[0].text,  # may have a date
        "chat": tokenizer.chat_template if rule.template == "chat" else None,
    }


def _build(
    folder: Path,
    source: Source,
    tokenizer: Tokenizer,
    rule: Rule,
    split: Split,
    limit: int | None,
    progress: ProgressMode,
) -> None:
    """Writes an entry; only the holder of its lock may."""
    examples, total, tally = _rows(source, split, limit)
    for torn in folder.parent.glob(f"{folder.name}.*.tmp"):  # of builders that were killed
        shutil.rmtree(torn, ignore_errors=True)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        encoded = encode_chunks(chunks(examples, tokenizer, rule.template), tokenizer, rule)
        with track_progress(f"encoding data={source.name}", total, progress) as report:
            written = _write(temporary, encoded, rule, report)
        if total is not None and written.num_rows + written.num_dropped != total:
            raise ValueError(f"the rows of data={source.name} changed while they were read")
        if not written.num_rows and written.num_dropped:
            raise ValueError(_nothing_fits(written.num_dropped, source, rule.max_length))
        if written.num_dropped:
            tally[TOO_LONG] += written.num_dropped
        facts = {"tally": dict(tally), "num_truncated": written.num_truncated}
        write_json(temporary / "facts.json", {**facts, "files": written.checksums})
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _nothing_fits(num_rows: int, source: Source, longest: int) -> str:
    limit, remedy = f"data.max_length={longest} tokens", "data.max_length must be larger"
    if longest < source.max_length:
        limit = f"the model's context of {longest} tokens (data.max_length={source.max_length})"
        remedy = "another model or shorter rows are needed"
    return f"none of the {num_rows} rows fits {limit} with its answer whole; {remedy}"


def _rows(
    source: Source, split: Split, limit: int | None
) -> tuple[Iterable[Example], int | None, Tally]:
    """Rows, their number if it is known, and a count of those left out."""
    if split == "train":
        rows = training_examples(source)
        return rows, len(rows), Tally(rows.tally)
    tally = Tally()
    return islice(source.examples(split, tally), limit), None, tally


class _Written(NamedTuple):
    checksums: dict[str, list[Any]]
    num_rows: int
    num_truncated: int
    num_dropped: int


def _write(
    folder: Path, encoded: Iterator[EncodedChunk], rule: Rule, report: Callable[[int], None]
) -> _Written:
    """The three arrays, a chunk at a time."""
    ids = ArrayFile(folder / "ids", np.dtype(np.uint32 if rule.wide else np.uint16))
    offsets = ArrayFile(folder / "offsets", np.dtype(np.int64))
    starts = ArrayFile(folder / "answer_starts", np.dtype(np.int64))
    files = (ids, offsets, starts)
    num_truncated = num_dropped = 0
    try:
        offsets.append(np.zeros(1))
        for chunk in encoded:
            offsets.append(ids.count + np.cumsum(chunk.lengths))
            ids.append(chunk.ids)
            starts.append(chunk.answer_starts)
            num_truncated += chunk.num_truncated
            num_dropped += chunk.num_dropped
            report(starts.count + num_dropped)
    finally:
        for file in files:
            file.close()
    checksums = {f.path.name: [f.dtype.name, f.count, f.checksum] for f in files}
    return _Written(checksums, starts.count, num_truncated, num_dropped)


def _opened(folder: Path) -> EncodedRows | None:
    """The rows of an entry, or None if there is none or it is damaged."""
    try:
        facts = json.loads((folder / "facts.json").read_text())
        ids, offsets, starts = (
            mapped(folder / name, *facts["files"][name])
            for name in ("ids", "offsets", "answer_starts")
        )
        return EncodedRows(ids, offsets, starts, Tally(facts["tally"]), facts["num_truncated"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
