"""Rows as token ids, with the prompt told apart from the answer.

`encode_row` says what a row becomes. `encode_chunk` gives the same for many rows at once, through
the tokenizer's own batches, and cuts what is too long; `encode_chunks` has worker processes do it.
Nothing here imports torch or transformers: a worker is there in no time.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int

from alps.data.example import Example, Tally
from alps.data.template import Chunk, Rendered, chunks, prompt, prompt_ids
from alps.results import RunFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

TooLong = Literal["truncate", "drop"]
SMALL = 4096
"""So many rows are encoded sooner than a worker process has started."""


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of prompt, answer and end-of-text; the loss sees those from `answer_start` on."""

    ids: list[int]
    answer_start: int

    @property
    def num_answer_tokens(self) -> int:
        """Answer tokens, end-of-text included."""
        return len(self.ids) - self.answer_start


class Rule(NamedTuple):
    """How rows are encoded, whatever the tokenizer.

    Attributes:
        template: `alpaca`, `chat` or `plain`.
        end: The end-of-text token.
        max_length: Longest row in tokens.
        too_long: What happens to longer ones.
        wide: Whether ids need 32 bits.
    """

    template: str
    end: int
    max_length: int
    too_long: TooLong
    wide: bool


class EncodedChunk(NamedTuple):
    """The rows of a chunk behind each other, and how many were cut or left out."""

    ids: Int[np.ndarray, " tokens"]
    lengths: Int[np.ndarray, " rows"]
    answer_starts: Int[np.ndarray, " rows"]
    num_truncated: int
    num_dropped: int


class FastCoder:
    """A tokenizer of the `tokenizers` library, from its JSON.

    With `encode_special_tokens`, a "</s>" in a row is text, not the end of it. A chat template
    writes special tokens itself, so there they are what they say.
    """

    def __init__(self, backend: str, rule: Rule, in_batches: bool):
        """Makes a tokenizer of its own.

        Args:
            backend: What `tokenizers.Tokenizer.to_str()` gave.
            rule: Template and end-of-text token.
            in_batches: Whether to use the library's batches, which are for worker processes: in a
                process that forks later, its threads would complain.
        """
        self.tokenizer = tokenizers.Tokenizer.from_str(backend)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.rule, self.in_batches = rule, in_batches

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Rendered prompts, with the tokens that the tokenizer adds before a text."""
        if self.rule.template == "chat":
            return self._encode(texts, add=False, special_is_text=False)
        found = self._encode(texts, add=True, special_is_text=True)
        return [ids[:-1] if ids[-1] == self.rule.end else ids for ids in found]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Answers, without added tokens."""
        return self._encode(texts, add=False, special_is_text=True)

    def ends(self, text: str) -> Sequence[int]:
        """Characters before the end of each token."""
        self.tokenizer.encode_special_tokens = self.rule.template != "chat"
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return [end for _, end in offsets]

    def _encode(self, texts: Sequence[str], add: bool, special_is_text: bool) -> list[list[int]]:
        self.tokenizer.encode_special_tokens = special_is_text
        if self.in_batches:
            found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=add)
        else:
            found = (self.tokenizer.encode(text, add_special_tokens=add) for text in texts)
        return [encoding.ids for encoding in found]


class SlowCoder:
    """Any other tokenizer, one row at a time."""

    def __init__(self, tokenizer: Tokenizer, template: str):
        """Uses the tokenizer itself."""
        self.tokenizer, self.template = tokenizer, template

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Rendered prompts, as `encode_row` has them."""
        return [prompt_ids(self.template, text, self.tokenizer) for text in texts]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Answers, as `encode_row` has them."""
        return [answer_ids(text, self.tokenizer) for text in texts]

    def ends(self, text: str) -> Sequence[int]:
        """Every character: where tokens end is not known."""
        return range(1, len(text) + 1)


Coder = FastCoder | SlowCoder


def encode_row(example: Example, tokenizer: Tokenizer, template: str) -> EncodedRow:
    """One row; the answer ends in the end-of-text token, which is learned too."""
    ids = prompt(template, example.instruction, tokenizer)
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return EncodedRow([*ids, *answer_ids(example.answer, tokenizer), end], len(ids))


def answer_ids(answer: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of an answer; with `split_special_tokens` a "</s>" in it is text, not its end."""
    return tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    template: str,
    max_length: int,
    too_long: TooLong = "truncate",
) -> tuple[list[EncodedRow], Tally]:
    """Rows in memory, for a few of them, and how many were left out as too long."""
    rule = rule_of(tokenizer, template, max_length, too_long)
    coder = local_coder(tokenizer, rule)
    rows, tally = [], Tally()
    for chunk in chunks(examples, tokenizer, template):
        done = encode_chunk(coder, chunk, rule)
        stops = np.cumsum(done.lengths)
        for stop, length, start in zip(stops, done.lengths, done.answer_starts, strict=True):
            rows.append(EncodedRow(done.ids[stop - length : stop].tolist(), int(start)))
        tally += Tally({"too long": done.num_dropped})
    return rows, tally


def rule_of(tokenizer: Tokenizer, template: str, max_length: int, too_long: TooLong) -> Rule:
    """The rule for a tokenizer, which must have an end-of-text token."""
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    wide = max(tokenizer.get_vocab().values()) >= 2**16
    return Rule(template, end, max_length, too_long, wide)


def local_coder(tokenizer: Tokenizer, rule: Rule) -> Coder:
    """A coder for this process."""
    if tokenizer.is_fast:
        return FastCoder(backend_of(tokenizer), rule, in_batches=False)
    return SlowCoder(tokenizer, rule.template)


def backend_of(tokenizer: Any) -> str:
    """A fast tokenizer's JSON."""
    return tokenizer.backend_tokenizer.to_str()


def encode_chunk(coder: Coder, chunk: Chunk, rule: Rule) -> EncodedChunk:
    """The rows of a chunk; those that are too long are cut or left out."""
    prompts = coder.prompts([rendered.text for rendered, _ in chunk])
    answers = coder.answers([answer for _, answer in chunk])
    ids: list[int] = []
    lengths: list[int] = []
    starts: list[int] = []
    num_truncated = num_dropped = 0
    for (rendered, _), asked, answer in zip(chunk, prompts, answers, strict=True):
        room = rule.max_length - len(answer) - 1
        if len(asked) > room:
            cut = shortened(coder, rendered, len(asked), room) if rule.too_long != "drop" else None
            if cut is None:
                num_dropped += 1
                continue
            asked = cut
            num_truncated += 1
        ids += asked
        ids += answer
        ids.append(rule.end)
        lengths.append(len(asked) + len(answer) + 1)
        starts.append(len(asked))
    dtype = np.uint32 if rule.wide else np.uint16
    return EncodedChunk(
        np.array(ids, dtype=dtype),
        np.array(lengths, dtype=np.int64),
        np.array(starts, dtype=np.int64),
        num_truncated,
        num_dropped,
    )


def shortened(coder: Coder, prompt: Rendered, length: int, room: int) -> list[int] | None:
    """The prompt with the end of its instruction cut off, so that it has at most `room` tokens.

    Args:
        coder: The tokenizer.
        prompt: The prompt.
        length: Its tokens.
        room: Tokens there are for it.

    Returns:
        Token ids, or None if not one token of the instruction would stay.
    """
    ends = coder.ends(prompt.instruction)
    keep = len(ends) - (length - room)
    while keep > 0:
        instruction = prompt.instruction[: ends[keep - 1]]
        if not instruction.strip():
            return None
        (ids,) = coder.prompts([prompt.with_instruction(instruction).text])
        if len(ids) <= room:
            return ids
        keep -= len(ids) - room  # tokens can merge otherwise where the text was cut
    return None


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
            [sys.executable, "-P", "-c", "from alps.data.encode import work; work()"],
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
