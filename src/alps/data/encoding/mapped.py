"""Encoding with Hugging Face `datasets`: texts into an Arrow file, ids by `Dataset.map`.

`datasets` changes state of the process: progress bars, log level, `TOKENIZERS_PARALLELISM`, even
the object `os.environ`. `isolated_datasets` restores all of it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, Features, List, Value, logging
from datasets.exceptions import DatasetGenerationError
from datasets.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from alps.data.encoding.encode import EncodingOptions, encode_batch
from alps.data.example import Example
from alps.runs.result import RunFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

BATCH = 256
"""Examples that are tokenized at once."""

SMALL = 4096
"""Fewer examples are encoded sooner than worker processes start."""

SECONDS_BETWEEN_REPORTS = 2.0
_TEXTS = Features({"instruction": Value("string"), "answer": Value("string")})
_PARALLELISM = "TOKENIZERS_PARALLELISM"


@contextmanager
def isolated_datasets() -> Iterator[None]:
    """Runs `datasets` without progress bars and warnings and restores the state it changes."""
    environment, parallelism = os.environ, os.environ.get(_PARALLELISM)
    bars, level = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity_error()
    os.environ[_PARALLELISM] = "false"  # threads of `tokenizers` don't survive a fork
    try:
        yield
    finally:
        os.environ = environment  # noqa: B003  `map` puts a copy in its place
        os.environ.pop(_PARALLELISM, None)
        if parallelism is not None:
            os.environ[_PARALLELISM] = parallelism
        logging.set_verbosity(level)
        if bars:
            enable_progress_bars()


def text_dataset(examples: Iterable[Example], folder: Path, fingerprint: str) -> Dataset:
    """Instructions and answers, memory-mapped from a folder.

    Args:
        examples: Read once.
        folder: Receives the Arrow files.
        fingerprint: Identifies the examples; `datasets` would pickle and hash the generator.

    Raises:
        ValueError: The error that reading the examples raised.
    """
    rest = iter(examples)
    first = next(rest, None)
    if first is None:  # `from_generator` fails without examples
        return empty_dataset(_TEXTS)

    def texts() -> Iterator[dict[str, str]]:
        for example in chain([first], rest):
            yield {"instruction": example.instruction, "answer": example.answer}

    try:
        found = Dataset.from_generator(
            texts, features=_TEXTS, cache_dir=str(folder), fingerprint=fingerprint
        )
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None
    assert isinstance(found, Dataset)
    return found


def encode_dataset(
    texts: Dataset,
    tokenizer: Tokenizer,
    options: EncodingOptions,
    folder: Path,
    fingerprint: str,
    report: Callable[[int], None],
) -> Dataset:
    """Ids of the examples in their order, without those that are too long.

    Args:
        texts: Instructions and answers.
        tokenizer: The model's.
        options: Template and maximum length.
        folder: Receives the Arrow files.
        fingerprint: Identifies the result.
        report: Receives the number of examples encoded so far.

    Raises:
        RunFailed: If a worker process was killed.
    """
    features = encoded_features(options.dtype)
    if not len(texts):
        return empty_dataset(features)
    workers = num_processes() if len(texts) > SMALL else 1
    counter = folder / "encoded"
    counter.touch()
    with _reported(counter, report):
        try:
            return texts.map(
                _encode_batch,
                batched=True,
                batch_size=BATCH,
                with_rank=True,
                remove_columns=list(_TEXTS),
                features=features,
                fn_kwargs={"tokenizer": tokenizer, "options": options, "counter": counter},
                cache_file_name=str(folder / "encoded.arrow"),
                load_from_cache_file=False,
                new_fingerprint=fingerprint,
                num_proc=workers if workers > 1 else None,
            )
        except RuntimeError as error:
            if "abruptly died" not in str(error):
                raise
            raise RunFailed(
                "a process that encodes rows ended too early, for want of memory perhaps; "
                "ALPS_NUM_PROC=1 encodes without them"
            ) from None


def encoded_features(dtype: str) -> Features:
    """Columns of an encoded dataset."""
    return Features(
        {
            "ids": List(Value(dtype)),
            "length": Value("int64"),
            "answer_start": Value("int64"),
            "truncated": Value("bool"),
        }
    )


def empty_dataset(features: Features) -> Dataset:
    """A dataset without examples."""
    return Dataset.from_dict({name: [] for name in features}, features=features)


def num_processes() -> int:
    """Processes that may encode: `ALPS_NUM_PROC`, else the cores of this job.

    Raises:
        ValueError: If `ALPS_NUM_PROC` is no number.
    """
    asked = os.environ.get("ALPS_NUM_PROC", "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise ValueError(f"ALPS_NUM_PROC must be a whole number of at least 1, got {asked!r}")
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(asked or min(own or 1, int(allowed) if allowed.isdecimal() else 10**6))


def _encode_batch(
    batch: Mapping[str, Sequence[str]],
    rank: int | None,
    tokenizer: Tokenizer,
    options: EncodingOptions,
    counter: Path,
) -> dict[str, list[Any]]:
    if rank is not None:  # a forked process has the handlers of its parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    columns = encode_batch(batch, tokenizer, options)
    with counter.open("ab") as file:
        file.write(bytes(len(batch["answer"])))
    return columns


@contextmanager
def _reported(counter: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Reports the size of a file to which every process adds a byte for each encoded example."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(SECONDS_BETWEEN_REPORTS):
            report(counter.stat().st_size)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    report(counter.stat().st_size)
