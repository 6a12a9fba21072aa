"""Chunks of rows encoded by several processes, which know the tokenizer and nothing else."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING

from alps.data.encoding.encode import (
    EncodedChunk,
    FastCoder,
    Rule,
    backend_of,
    encode_chunk,
    local_coder,
)
from alps.data.template import Chunk
from alps.runs.result import RunFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

SMALL = 4096
"""So many rows are encoded sooner than a worker process has started."""


def encode_chunks(
    rendered: Iterator[Chunk], tokenizer: Tokenizer, rule: Rule
) -> Iterator[EncodedChunk]:
    """All chunks in their order: few in this process, many in worker processes."""
    first: list[Chunk] = []
    while sum(map(len, first)) < SMALL and (chunk := next(rendered, None)):
        first.append(chunk)
    more, num_workers = next(rendered, None), num_processes()
    if more is None or num_workers < 2 or not tokenizer.is_fast:
        coder = local_coder(tokenizer, rule)
        for chunk in chain(first, [more] if more else [], rendered):
            yield encode_chunk(coder, chunk, rule)
        return
    hello = pickle.dumps((backend_of(tokenizer), rule))
    idle: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker(hello) for _ in range(num_workers)]
    for worker in workers:
        idle.put(worker)

    def task(chunk: Chunk) -> EncodedChunk:
        worker = idle.get()
        try:
            return worker.encode(chunk)
        finally:
            idle.put(worker)

    pending: deque[Future[EncodedChunk]] = deque()
    with ThreadPoolExecutor(num_workers) as threads:
        try:
            for chunk in chain(first, [more], rendered):
                pending.append(threads.submit(task, chunk))
                if len(pending) > 2 * num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()


def num_processes() -> int:
    """Processes that may encode: `ALPS_NUM_PROC`, else the cores that are this job's.

    Raises:
        ValueError: If `ALPS_NUM_PROC` is no number.
    """
    asked = os.environ.get("ALPS_NUM_PROC", "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise ValueError(f"ALPS_NUM_PROC must be a whole number of at least 1, got {asked!r}")
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(asked or min(own or 1, int(allowed) if allowed.isdecimal() else 10**6))


class Worker:
    """A process that does `work`; not of `multiprocessing`, which would import the main program."""

    def __init__(self, hello: bytes):
        """Starts it; it waits for its first chunk."""
        single = {n: "1" for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join(place for place in sys.path if place)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from alps.data.encoding.pool import work; work()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **single, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path},
        )
        self._next = hello

    def encode(self, chunk: Chunk) -> EncodedChunk:
        """Sends a chunk and waits for its rows.

        Raises:
            RunFailed: If the process is no more.
        """
        sink, source = self.process.stdin, self.process.stdout
        assert sink and source
        try:
            sink.write(self._next + pickle.dumps(chunk, protocol=pickle.HIGHEST_PROTOCOL))
            sink.flush()
            self._next = b""
            return EncodedChunk(*pickle.load(source))
        except (OSError, EOFError, pickle.UnpicklingError):
            raise RunFailed(
                "a process that encodes rows ended too early, for want of memory perhaps; "
                "ALPS_NUM_PROC=1 encodes without them"
            ) from None

    def stop(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            try:
                pipe.close()
            except OSError:  # what could not be sent any more
                continue


def work() -> None:
    """Body of a worker process: a tokenizer and a rule, then chunks, from stdin to stdout.

    It ends when its parent closes stdin, or is no more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    backend, rule = pickle.load(source)
    coder = FastCoder(backend, rule, in_batches=True)
    while True:
        try:
            chunk = pickle.load(source)
        except EOFError:
            return
        done = tuple(encode_chunk(coder, chunk, rule))
        pickle.dump(done, sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()
