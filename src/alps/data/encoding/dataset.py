"""Encoded datasets, cached by content for each (examples, tokenizer, template, length).

An entry of the cache is a folder that `datasets` saved, with `facts.json` beside its files, which
is written last and has a checksum of each. It is built under a temporary name and renamed, so an
incomplete entry is never read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from datasets import Dataset, load_from_disk
from jaxtyping import Int

from alps.base.atomic import write_json
from alps.base.cache import cache_dir, cache_lock
from alps.base.hashing import content_sha256, digest
from alps.base.progress import ProgressMode, track_progress
from alps.data.encoding.encode import TOO_LONG, EncodedExample, EncodingOptions
from alps.data.encoding.mapped import (
    empty_dataset,
    encode_dataset,
    encoded_features,
    isolated_datasets,
    text_dataset,
)
from alps.data.example import DropCounts, Example, Split
from alps.data.subset import subset_identity, training_examples
from alps.data.template import render
from alps.settings.interfaces import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

FORMAT = 2
"""Increases when the files change, or their content at equal settings."""


class EncodedDataset(Sequence[EncodedExample]):
    """Encoded examples, memory-mapped."""

    def __init__(self, dataset: Dataset, dropped: DropCounts | None = None):
        """Wraps a dataset.

        Args:
            dataset: Columns of `encoded_features`.
            dropped: Number of dropped examples by reason.
        """
        self._dataset = dataset
        self.dropped = dropped or DropCounts()

    @classmethod
    def of(cls, examples: Sequence[EncodedExample]) -> EncodedDataset:
        """A dataset in memory."""
        columns = {
            "ids": [example.ids for example in examples],
            "length": [len(example.ids) for example in examples],
            "answer_start": [example.answer_start for example in examples],
            "truncated": [False] * len(examples),
        }
        return cls(Dataset.from_dict(columns, features=encoded_features("uint32")))

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> EncodedExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedExample]: ...
    def __getitem__(self, index: int | slice) -> EncodedExample | list[EncodedExample]:
        """An example, or a list of examples."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        columns = self._dataset[index]
        return EncodedExample(columns["ids"], columns["answer_start"])

    @cached_property
    def lengths(self) -> Int[np.ndarray, " examples"]:
        """Tokens of each example."""
        return self._column("length")

    @cached_property
    def num_answers(self) -> Int[np.ndarray, " examples"]:
        """Answer tokens of each example, end-of-text included."""
        return self.lengths - self._column("answer_start")

    @cached_property
    def num_truncated(self) -> int:
        """Examples whose instruction was truncated."""
        return int(self._column("truncated").sum())

    def _column(self, name: str) -> np.ndarray:
        return self._dataset.data.column(name).to_numpy()

    @property
    def num_dropped(self) -> int:
        """Dropped examples, whatever the reason."""
        return sum(self.dropped.values())


def encoded_dataset(
    source: Source,
    tokenizer: Tokenizer,
    split: Split = "train",
    limit: int | None = None,
    progress: ProgressMode = "off",
    context: int | None = None,
) -> EncodedDataset:
    """The examples of a source as token ids, from the cache if possible.

    Args:
        source: Examples, template and maximum length.
        tokenizer: The model's.
        split: `train` (the examples a run trains on), or `test`.
        limit: Number of examples of the test split, from its beginning; None for all.
        progress: Display of a long build.
        context: The model's context in tokens, which bounds `data.max_length`.

    Raises:
        ValueError: If an example cannot be used, or none is left.
    """
    assert split == "test" or limit is None
    max_length = effective_max_length(source, context)
    options = EncodingOptions.of(tokenizer, source.template, max_length, source.too_long)
    key = digest(_identity(source, tokenizer, options, split, limit))
    folder = cache_dir() / "encoded" / key
    found = _load(folder)
    if found is None:
        with cache_lock(f"encoded-{key[:16]}"):
            found = _load(folder)  # another process may have built it meanwhile
            if found is None:
                _build(folder, source, tokenizer, options, split, limit, progress)
                found = _load(folder)
                assert found is not None, f"{folder} was damaged as soon as it was written"
    return found


def effective_max_length(source: Source, context: int | None) -> int:
    """`data.max_length`, or the model's context if that is shorter."""
    return source.max_length if context is None else min(source.max_length, context)


def context_warning(dataset: EncodedDataset, source: Source, context: int | None) -> str | None:
    """A sentence if the model's context, not `data.max_length`, truncated or dropped examples."""
    changed = dataset.num_truncated + dataset.dropped[TOO_LONG]
    if not changed or context is None or source.max_length <= context:
        return None
    return (
        f"data={source.name}: {changed} rows are longer than the model's context of {context} "
        f"tokens and were cut to it or left out, as if data.max_length={source.max_length} were "
        f"{context}"
    )


def _identity(
    source: Source, tokenizer: Any, options: EncodingOptions, split: Split, limit: int | None
) -> dict[str, Any]:
    """Everything that the files depend on."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content |= {"truncation": None, "padding": None}  # left behind by the last call
    else:
        with TemporaryDirectory() as saved:
            tokenizer.save_pretrained(saved)
            content = {f.name: f.read_bytes().hex() for f in sorted(Path(saved).iterdir())}
    return {
        "format": FORMAT,
        "rows": subset_identity(source, split),
        "limit": limit,
        "tokenizer": content,
        "library": version("tokenizers" if tokenizer.is_fast else "transformers"),
        "options": options._asdict(),
        "prompt": render(options.template, ["instruction"], tokenizer)[0].text,  # may have a date
        "chat": tokenizer.chat_template if options.template == "chat" else None,
    }


def _build(
    folder: Path,
    source: Source,
    tokenizer: Tokenizer,
    options: EncodingOptions,
    split: Split,
    limit: int | None,
    progress: ProgressMode,
) -> None:
    """Writes an entry; the caller holds its lock."""
    examples, total, dropped = _examples(source, split, limit)
    for incomplete in folder.parent.glob(f"{folder.name}.*.tmp"):  # of builders that were killed
        shutil.rmtree(incomplete, ignore_errors=True)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    fingerprint = folder.name[:32]  # `datasets` appends numbers and allows 64 characters
    try:
        with isolated_datasets():
            texts = text_dataset(examples, temporary / "texts", fingerprint)
            if total is not None and len(texts) != total:
                raise ValueError(f"the rows of data={source.name} changed while they were read")
            with track_progress(f"encoding data={source.name}", total, progress) as report:
                encoded = encode_dataset(texts, tokenizer, options, temporary, fingerprint, report)
            num_too_long = len(texts) - len(encoded)
            if num_too_long and not len(encoded):
                raise ValueError(_none_fits(num_too_long, source, options.max_length))
            if num_too_long:
                dropped[TOO_LONG] += num_too_long
            _save(encoded, temporary / "entry", dropped)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        (temporary / "entry").rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _none_fits(count: int, source: Source, max_length: int) -> str:
    limit, remedy = f"data.max_length={max_length} tokens", "data.max_length must be larger"
    if max_length < source.max_length:
        limit = f"the model's context of {max_length} tokens (data.max_length={source.max_length})"
        remedy = "another model or shorter rows are needed"
    return f"none of the {count} rows fits {limit} with its answer whole; {remedy}"


def _examples(
    source: Source, split: Split, limit: int | None
) -> tuple[Iterable[Example], int | None, DropCounts]:
    """Examples, their number if known, and counts of dropped ones, complete after reading."""
    if split == "train":
        subset = training_examples(source)
        return subset, len(subset), DropCounts(subset.dropped)
    dropped = DropCounts()
    return islice(source.examples(split, dropped), limit), None, dropped


def _save(encoded: Dataset, folder: Path, dropped: DropCounts) -> None:
    folder.mkdir()
    if len(encoded):  # `datasets` can save an empty one, but not load it
        encoded.save_to_disk(str(folder))
    checksums = {file.name: content_sha256(file) for file in sorted(folder.iterdir())}
    write_json(folder / "facts.json", {"dropped": dict(dropped), "files": checksums})


def _load(folder: Path) -> EncodedDataset | None:
    """An entry, or None if it is missing or damaged."""
    try:
        facts = json.loads((folder / "facts.json").read_text())
        for name, checksum in facts["files"].items():
            if content_sha256(folder / name) != checksum:
                return None
        files, dropped = facts["files"], DropCounts(facts["dropped"])
        dataset = (
            load_from_disk(str(folder)) if files else empty_dataset(encoded_features("uint16"))
        )
        assert isinstance(dataset, Dataset)
        return EncodedDataset(dataset, dropped)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
