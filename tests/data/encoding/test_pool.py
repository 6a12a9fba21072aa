import os
import subprocess
import sys

import numpy as np
import pytest

from alps.data.encoding.encode import FastCoder, backend_of, encode_chunk, rule_of
from alps.data.encoding.pool import Worker, encode_chunks, num_processes
from alps.data.generators import mini_code
from alps.data.template import chunks
from alps.models.byte_tokenizer import byte_tokenizer
from alps.runs.result import RunFailed


@pytest.fixture
def started(monkeypatch) -> list[Worker]:
    """The worker processes, as they start."""
    workers = []

    def start(hello):
        workers.append(Worker(hello))
        return workers[-1]

    monkeypatch.setattr("alps.data.encoding.pool.Worker", start)
    return workers


def test_worker_processes_give_the_same_in_the_same_order(monkeypatch, started):
    monkeypatch.setenv("ALPS_NUM_PROC", "3")
    monkeypatch.setattr("alps.data.encoding.pool.SMALL", 1500)
    monkeypatch.setattr("alps.data.template.CHUNK_ROWS", 200)
    tokenizer, examples = byte_tokenizer(), list(mini_code.examples("train"))
    rule = rule_of(tokenizer, "alpaca", 220, "truncate")
    done = list(encode_chunks(chunks(examples, tokenizer, "alpaca"), tokenizer, rule))
    assert len(started) == 3 and all(worker.process.returncode is not None for worker in started)
    coder = FastCoder(backend_of(tokenizer), rule, False)
    expected = [encode_chunk(coder, c, rule) for c in chunks(examples, tokenizer, "alpaca")]
    assert len(done) == len(expected) == 25
    for found, wanted in zip(done, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert sum(c.num_truncated for c in done)


def test_a_worker_that_is_killed_is_one_sentence(monkeypatch, started):
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr("alps.data.encoding.pool.SMALL", 10)
    monkeypatch.setattr("alps.data.template.CHUNK_ROWS", 10)
    tokenizer = byte_tokenizer()
    rule = rule_of(tokenizer, "alpaca", 220, "truncate")
    rendered = chunks(mini_code.examples("train"), tokenizer, "alpaca")
    encoded = encode_chunks(rendered, tokenizer, rule)
    next(encoded)
    started[0].process.kill()
    with pytest.raises(RunFailed, match=r"ended too early.*ALPS_NUM_PROC=1"):
        list(encoded)
    assert all(worker.process.returncode is not None for worker in started)


def test_a_worker_needs_neither_torch_nor_transformers():
    code = "import sys, alps.data.encoding.pool as _; "
    code += "print({'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


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
