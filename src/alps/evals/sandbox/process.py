"""Runs one generated program in a sandbox, under limits on time and output.

`Sandbox.start` starts a program; `SandboxProcess.lines` reads its results. Neither torch nor
EvalPlus is imported here. docs/security.md states the guarantees.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.evals.sandbox import values
from alps.evals.sandbox.backend import ENVIRONMENT, Backend

MEMORY = 4 << 30
"""Bytes of address space of a program, as in EvalPlus."""

STARTUP_SECONDS = 20.0
PIPE_BYTES = 1 << 20


class LimitExceeded(Exception):
    """A program was killed at a limit; `reason` names it."""

    reason: str


class TimeLimitExceeded(LimitExceeded):
    """A program ran for too long."""

    reason = "too slow"


class OutputLimitExceeded(LimitExceeded):
    """A program wrote too much output."""

    reason = "too much"


@dataclass(frozen=True, kw_only=True)
class CallBatch:
    """Calls made in one fresh process.

    Attributes:
        name: Name of the batch.
        inputs: Arguments of each call.
        call_timeouts: Seconds for each call; 0 for no limit.
        timeout: Seconds for the batch, including execution of the program.
    """

    name: str
    inputs: Sequence[Sequence[Any]]
    call_timeouts: Sequence[float]
    timeout: float


@dataclass(frozen=True, kw_only=True)
class Request:
    """A program and the calls to make.

    Attributes:
        code: The program.
        entry_point: The function to call.
        batches: Run one after the other.
        view: Aspect of each result that is returned: the value (None); its items, if it can only be
            iterated (`items`); whether it is not None (`not_none`); or that, unless it is a bool
            (`bool_or_not_none`).
        memory: Bytes of address space, or None.
        timed: Whether a completed batch reports the seconds of its calls.
        syscall_filter: Whether the kernel denies system calls; False only to test the isolation
            behind the filter.
    """

    code: str
    entry_point: str
    batches: Sequence[CallBatch]
    view: str | None = None
    memory: int | None = MEMORY
    timed: bool = False
    syscall_filter: bool = True

    def to_line(self) -> bytes:
        """Serialized for the runner, after its length."""
        batches = [{**vars(b), "inputs": values.pack(list(b.inputs))} for b in self.batches]
        line = json.dumps({**vars(self), "batches": batches}).encode()
        return f"{len(line):<16}".encode() + line


@dataclass(frozen=True)
class Sandbox:
    """A backend and its runtime directory.

    Attributes:
        backend: Starts the runner.
        runtime_dir: Folder from `runtime_directory`.
    """

    backend: Backend
    runtime_dir: Path

    @contextmanager
    def start(self, request: Request, max_output_bytes: int) -> Iterator[SandboxProcess]:
        """Starts a program; all its processes are killed at the end."""
        seconds = STARTUP_SECONDS + sum(batch.timeout for batch in request.batches)
        with subprocess.Popen(
            self.backend.command(self.runtime_dir),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
        ) as process:
            try:
                yield SandboxProcess(process, request, seconds, max_output_bytes)
            finally:
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        assert pipe is not None
                        pipe.close()
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)


class SandboxProcess:
    """Input and output of a running sandbox."""

    def __init__(
        self, process: subprocess.Popen, request: Request, seconds: float, max_output_bytes: int
    ):
        assert process.stdin is not None and process.stdout is not None
        self._stdin, self._stdout = process.stdin.fileno(), process.stdout.fileno()
        self._deadline = time.monotonic() + seconds
        self._bytes_left = max_output_bytes
        with suppress(OSError, AttributeError):  # fewer reads than with the default 64 KiB
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._num_batches = len(request.batches)
        self._send(request.to_line())

    def lines(self) -> Iterator[bytes]:
        """Output lines without line breaks, until the last batch or the process ends.

        Raises:
            TimeLimitExceeded: After the deadline.
            OutputLimitExceeded: If the output is too large.
        """
        rest, ended = [], 0
        while chunk := self._read():
            *complete, last = chunk.split(b"\n")
            for line in complete:
                line, rest = b"".join([*rest, line]), []
                if line:
                    yield line
                ended += line.startswith(b". ")
                if ended >= self._num_batches:
                    return
            rest.append(last)

    def stop(self, batch: str) -> None:
        """Makes the runner go on to the next batch."""
        self._send(f" {batch} ".encode())

    def _read(self) -> bytes:
        seconds_left = self._deadline - time.monotonic()
        if seconds_left <= 0 or not select.select([self._stdout], [], [], seconds_left)[0]:
            raise TimeLimitExceeded
        chunk = os.read(self._stdout, 1 << 20)
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            raise OutputLimitExceeded
        return chunk

    def _send(self, message: bytes) -> None:
        """Writes until the process ends; a dead process shows in its output."""
        with suppress(BrokenPipeError):
            while message:
                message = message[os.write(self._stdin, message) :]
