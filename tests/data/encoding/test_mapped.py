"""Encoding by `datasets`: worker processes, and nothing left behind in this one."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from itertools import islice

import datasets
import multiprocess
import pytest

from alps.data.encoding import mapped
from alps.data.encoding.encode import EncodingOptions, encode
from alps.data.encoding.mapped import (
    encode_dataset,
    isolated_datasets,
    num_processes,
    text_dataset,
)
from alps.data.generators import mini_code
from alps.models.byte_tokenizer import byte_tokenizer
from alps.runs.result import RunFailed

PARALLELISM = "TOKENIZERS_PARALLELISM"
EXAMPLES = list(islice(mini_code.examples("train"), 2000))


def encoded(folder, examples, report=lambda _: None):
    tokenizer = byte_tokenizer()
    options = EncodingOptions.of(tokenizer, "alpaca", 220, "truncate")
    with isolated_datasets():
        texts = text_dataset(examples, folder / "texts", "texts")
        return encode_dataset(texts, tokenizer, options, folder, "encoded", report)


def in_c(name: str) -> bytes | None:
    """An environment variable as libraries in C and Rust, and child processes, see it."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    return getenv(name.encode())


def test_worker_processes_give_the_same_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_NUM_PROC", "3")
    monkeypatch.setattr(mapped, "SMALL", 1500)
    monkeypatch.setattr(mapped, "_encode_batch", noting_rank(tmp_path / "ranks"))
    found = encoded(tmp_path, EXAMPLES)
    ranks = set((tmp_path / "ranks").read_text().split())
    assert ranks == {"0", "1", "2"} and not multiprocess.active_children()
    expected, dropped = encode(EXAMPLES, byte_tokenizer(), "alpaca", 220)
    assert found["ids"][:] == [example.ids for example in expected]
    assert found["answer_start"][:] == [example.answer_start for example in expected]
    assert sum(found["truncated"]) and len(EXAMPLES) - len(found) == dropped.total()


def noting_rank(path):
    original = mapped._encode_batch

    def note(batch, rank, **options):
        with path.open("a") as file:
            file.write(f"{rank}\n")
        return original(batch, rank, **options)

    return note


def test_few_examples_need_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "_encode_batch", noting_rank(tmp_path / "ranks"))
    assert len(encoded(tmp_path, EXAMPLES[:300])) > 100
    assert set((tmp_path / "ranks").read_text().split()) == {"None"}


def test_a_worker_that_is_killed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr(mapped, "SMALL", 10)
    original = mapped._encode_batch

    def die(batch, rank, **options):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)
        return original(batch, rank, **options)

    monkeypatch.setattr(mapped, "_encode_batch", die)
    with pytest.raises(RunFailed, match=r"ended too early.*ALPS_NUM_PROC=1"):
        encoded(tmp_path, EXAMPLES)
    assert not multiprocess.active_children() and not multiprocessing.active_children()
    assert not [t for t in threading.enumerate() if t.name.endswith("(poll)")]


def test_workers_leave_the_parents_signals_to_it(tmp_path, monkeypatch):
    """A training has handlers that only take note; a worker with them could not be ended."""
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr(mapped, "SMALL", 10)
    original = mapped._encode_batch

    def note(batch, rank, **options):
        columns = original(batch, rank, **options)
        found = [signal.getsignal(n).name for n in (signal.SIGINT, signal.SIGTERM)]
        (tmp_path / f"signals-{rank}").write_text(" ".join(found))
        return columns

    monkeypatch.setattr(mapped, "_encode_batch", note)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        encoded(tmp_path, EXAMPLES[:600])
    finally:
        signal.signal(signal.SIGTERM, before)
    for rank in (0, 1):
        assert (tmp_path / f"signals-{rank}").read_text() == "SIG_IGN SIG_DFL"


@pytest.mark.parametrize("before", [None, "true"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_that_datasets_changes_stays(tmp_path, monkeypatch, before, fails):
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr(mapped, "SMALL", 10)
    monkeypatch.delenv(PARALLELISM, raising=False)
    if before:
        monkeypatch.setenv(PARALLELISM, before)
    environment, level = os.environ, datasets.logging.get_verbosity()

    def examples():
        yield from EXAMPLES[:300]
        if fails:
            raise ValueError("row 301 is bad")

    if fails:
        with pytest.raises(ValueError, match=r"^row 301 is bad$"):
            encoded(tmp_path, examples())
    else:
        encoded(tmp_path, examples())
    assert os.environ is environment and os.environ.get(PARALLELISM) == before
    assert in_c(PARALLELISM) == (before.encode() if before else None)
    assert datasets.logging.get_verbosity() == level
    assert not datasets.are_progress_bars_disabled()


def test_nothing_is_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr(mapped, "SMALL", 10)
    encoded(tmp_path, EXAMPLES[:300])
    assert capfd.readouterr() == ("", "")


def test_progress_counts_the_examples_of_all_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr(mapped, "SMALL", 10)
    monkeypatch.setattr(mapped, "SECONDS_BETWEEN_REPORTS", 0.01)
    reports = []
    encoded(tmp_path, EXAMPLES, reports.append)
    assert reports == sorted(reports) and reports[-1] == len(EXAMPLES)
    assert any(0 < count < len(EXAMPLES) for count in reports)


@pytest.mark.parametrize(
    ("asked", "slurm", "expected"), [("3", "1", 3), ("", "1", 1), ("", "999", None), ("", "", None)]
)
def test_the_number_of_processes_is_the_jobs(monkeypatch, asked, slurm, expected):
    monkeypatch.setenv("ALPS_NUM_PROC", asked)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert num_processes() == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("asked", ["0", "-1", "many"])
def test_a_number_of_processes_that_is_none_is_one_sentence(monkeypatch, asked):
    monkeypatch.setenv("ALPS_NUM_PROC", asked)
    with pytest.raises(ValueError, match="ALPS_NUM_PROC must be a whole number of at least 1"):
        num_processes()
