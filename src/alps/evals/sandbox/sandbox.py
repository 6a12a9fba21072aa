"""A sandbox for programs that a language model wrote: what there is of it here, and how one runs.

`find` tries bubblewrap on a program that does what must not succeed. `Sandbox.started` starts one
program under limits and reads what comes back, up to a number of bytes and seconds.
Neither torch nor EvalPlus is imported here. docs/security.md says what is promised.
"""

from __future__ import annotations

import fcntl
import json
import os
import py_compile
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from alps.evals.sandbox import isolation, runner, values
from alps.evals.sandbox.backend import ENVIRONMENT, INSTALL, UNPROTECTED, Backend, installed

MEMORY = 4 << 30
"""Bytes of address space of a program, as in EvalPlus."""

STARTING_SECONDS = 20.0
PIPE_BYTES = 1 << 20
TRYING_SECONDS = 20.0


class TooSlow(Exception):
    """A program was killed because its time was over."""


class TooMuch(Exception):
    """A program was killed because of the bytes it sent."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Calls that a fresh process makes.

    Attributes:
        name: Of the part.
        inputs: Arguments of each call.
        limits: Seconds of each call; 0 for no limit.
        seconds: Of all together, with reading the program.
    """

    name: str
    inputs: Sequence[Sequence[Any]]
    limits: Sequence[float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Request:
    """A program and what to call.

    Attributes:
        code: The program.
        entry_point: The function in it.
        parts: Run one after the other.
        view: What is told of a result: itself (None); its items, if it can only be iterated
            (`items`); whether there is one (`given`); or that, unless it is a bool (`truth`).
        memory: Bytes of address space, or None.
        timed: Whether a part that came to its end tells the seconds of its calls.
        filter: Whether the kernel refuses calls; off only to try isolation without it.
    """

    code: str
    entry_point: str
    parts: Sequence[Part]
    view: str | None = None
    memory: int | None = MEMORY
    timed: bool = False
    filter: bool = True

    def to_line(self) -> bytes:
        """As the runner reads it, with its length before it."""
        parts = [{**vars(p), "inputs": values.pack(list(p.inputs))} for p in self.parts]
        line = json.dumps({**vars(self), "parts": parts}).encode()
        return f"{len(line):<16}".encode() + line


@dataclass(frozen=True)
class Sandbox:
    """A backend, and the folder with the code that runs inside.

    Attributes:
        backend: How it is started.
        runtime_dir: Folder from `runtime`.
    """

    backend: Backend
    runtime_dir: Path

    @contextmanager
    def started(self, request: Request, most_bytes: int) -> Iterator[Conversation]:
        """Starts a program; whatever is left of it is killed at the end."""
        seconds = STARTING_SECONDS + sum(part.seconds for part in request.parts)
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
                yield Conversation(process, request, seconds, most_bytes)
            finally:
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):
                        assert pipe is not None
                        pipe.close()
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)


class Conversation:
    """What goes in and out of a running sandbox."""

    def __init__(
        self, process: subprocess.Popen, request: Request, seconds: float, most_bytes: int
    ):
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        self._deadline = time.monotonic() + seconds
        self._left = most_bytes
        with suppress(OSError, AttributeError):  # fewer turns; a pipe holds 64 KiB else
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._num_parts = len(request.parts)
        self._say(request.to_line())

    def lines(self) -> Iterator[bytes]:
        """Lines without their ends, up to the end of the last part or of the process.

        Raises:
            TooSlow: If the time is over.
            TooMuch: If there are more bytes than agreed.
        """
        rest, parts = [], 0
        while piece := self._read():
            *whole, last = piece.split(b"\n")
            for line in whole:
                line, rest = b"".join([*rest, line]), []
                if line:
                    yield line
                parts += line.startswith(b". ")
                if parts >= self._num_parts:
                    return
            rest.append(last)

    def stop(self, part: str) -> None:
        """Has the runner go on to the next part."""
        self._say(f" {part} ".encode())

    def _read(self) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0 or not select.select([self._out], [], [], left)[0]:
            raise TooSlow
        piece = os.read(self._out, 1 << 20)
        self._left -= len(piece)
        if self._left < 0:
            raise TooMuch
        return piece

    def _say(self, text: bytes) -> None:
        """Writes as far as somebody reads; what is dead says so by its silence."""
        with suppress(BrokenPipeError):
            while text:
                text = text[os.write(self._in, text) :]


@contextmanager
def runtime() -> Iterator[Path]:
    """A folder with the compiled code that runs inside, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="alps-runtime-") as place:
        folder = Path(place).resolve()
        for module in (runner, values, isolation):
            source = str(module.__file__)
            target = folder / f"sandbox_{Path(source).stem}.pyc"
            py_compile.compile(source, str(target), dfile=target.stem, doraise=True)
            target.chmod(0o644)
        folder.chmod(0o755)
        yield folder


@contextmanager
def sandbox(allow_unsafe: bool = False) -> Iterator[Sandbox]:
    """The sandbox of this machine.

    Args:
        allow_unsafe: Give one that protects nothing rather than none.

    Raises:
        ValueError: If there is none; one sentence with the remedy.
    """
    found = find()
    if found is None and not allow_unsafe:
        raise ValueError(no_sandbox())
    with runtime() as folder:
        yield Sandbox(found or UNPROTECTED, folder)


@cache
def find() -> Backend | None:
    """The backend, if it holds here; found by trying."""
    backend = installed()
    return backend if backend is not None and not leaks(backend) else None


@cache
def no_sandbox() -> str:
    """Why there is no sandbox, and what to do."""
    backend = installed()
    why, remedy = "bubblewrap is not installed", INSTALL
    if backend is not None:
        why = f"bubblewrap does not hold here ({leaks(backend)})"
        remedy = (
            "allow it namespaces (unprivileged user namespaces; as root in a container, SYS_ADMIN)"
        )
    if sys.platform != "linux":
        why, remedy = "bubblewrap needs Linux", "evaluate there"
    return (
        f"generated code needs a sandbox, and this machine has none ({why}): {remedy}; or set "
        "evals.allow_unsafe_code=true to run it unprotected"
    )


INTRUDER = """
import os, posix, socket
def intrude(path, port):
    done = []
    def attempt(name, act):
        try:
            if act():
                done.append(name)
        except OSError:
            pass
    def connect():
        return socket.create_connection(("127.0.0.1", port), 1)
    def write():
        return os.open(os.path.dirname(path) + "/written", os.O_CREAT | os.O_WRONLY)
    attempt("reads files", lambda: os.open(path, os.O_RDONLY))
    attempt("reads files below the root", lambda: os.open("/.." + path, os.O_RDONLY))
    attempt("writes files", write)
    attempt("writes to the root", lambda: os.access("/", os.W_OK))
    attempt("opens connections", connect)
    attempt("reads the environment", lambda: "PATH" in os.environ)
    attempt("lists /proc", lambda: os.listdir("/proc"))
    attempt("is root", lambda: posix.setgroups([0]) or True)
    return done
"""


def leaks(backend: Backend) -> str:
    """What a program can do that it must not, in words; nothing if the backend holds."""
    with (
        runtime() as folder,
        tempfile.TemporaryDirectory() as place,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret = Path(place).resolve() / "secret"
        secret.write_text("secret")
        secret.parent.chmod(0o777)
        call = (str(secret), server.getsockname()[1])
        part = Part(name="probe", inputs=[call], limits=[10.0], seconds=TRYING_SECONDS)
        request = Request(code=INTRUDER, entry_point="intrude", parts=[part])
        requests = [replace(request, filter=False), request]
        return next(filter(None, (_answer(Sandbox(backend, folder), r) for r in requests)), "")


def _answer(tried: Sandbox, request: Request) -> str:
    try:
        with tried.started(request, 1 << 16) as conversation:
            said = list(conversation.lines())
        if not said or not said[0].startswith(b"v"):
            return "does not start"
        return ", ".join(map(str, values.decode(said[0][1:])))
    except (OSError, TooSlow, TooMuch, ValueError) as error:
        return f"does not start ({error or type(error).__name__})"
