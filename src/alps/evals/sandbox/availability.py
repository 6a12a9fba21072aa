"""The sandbox of this machine: tested before use, or the reason why there is none.

A probe attempts what isolation must prevent; a backend that lets it succeed is not used.
"""

from __future__ import annotations

import py_compile
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from alps.evals.sandbox import isolation, runner, values
from alps.evals.sandbox.backend import INSTALL, UNPROTECTED, Backend, installed_backend
from alps.evals.sandbox.process import CallBatch, LimitExceeded, Request, Sandbox

PROBE_SECONDS = 20.0
PROBE = """
import os, posix, socket
def probe(path, port):
    succeeded = []
    def attempt(name, action):
        try:
            if action():
                succeeded.append(name)
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
    return succeeded
"""


@contextmanager
def runtime_directory() -> Iterator[Path]:
    """A folder with the compiled modules that run inside, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="alps-runtime-") as temporary:
        folder = Path(temporary).resolve()
        for module in (runner, values, isolation):
            source = str(module.__file__)
            target = folder / f"sandbox_{Path(source).stem}.pyc"
            py_compile.compile(source, str(target), dfile=target.stem, doraise=True)
            target.chmod(0o644)
        folder.chmod(0o755)
        yield folder


@contextmanager
def open_sandbox(allow_unsafe: bool = False) -> Iterator[Sandbox]:
    """The sandbox of this machine.

    Args:
        allow_unsafe: Return an unprotected one if there is no other.

    Raises:
        ValueError: If there is none; one sentence with the remedy.
    """
    backend = available_backend()
    if backend is None and not allow_unsafe:
        raise ValueError(unavailable_reason())
    with runtime_directory() as folder:
        yield Sandbox(backend or UNPROTECTED, folder)


@cache
def available_backend() -> Backend | None:
    """The installed backend, if a probe finds no isolation failure."""
    backend = installed_backend()
    return backend if backend is not None and not isolation_failures(backend) else None


@cache
def unavailable_reason() -> str:
    """Why there is no sandbox, and the remedy."""
    backend = installed_backend()
    reason, remedy = "bubblewrap is not installed", INSTALL
    if backend is not None:
        reason = f"bubblewrap does not hold here ({isolation_failures(backend)})"
        remedy = (
            "allow it namespaces (unprivileged user namespaces; as root in a container, SYS_ADMIN)"
        )
    if sys.platform != "linux":
        reason, remedy = "bubblewrap needs Linux", "evaluate there"
    return (
        f"generated code needs a sandbox, and this machine has none ({reason}): {remedy}; or set "
        "evals.allow_unsafe_code=true to run it unprotected"
    )


def isolation_failures(backend: Backend) -> str:
    """Forbidden actions that succeed under a backend, in words; empty if it isolates."""
    with (
        runtime_directory() as runtime_dir,
        tempfile.TemporaryDirectory() as temporary,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret = Path(temporary).resolve() / "secret"
        secret.write_text("secret")
        secret.parent.chmod(0o777)
        call = (str(secret), server.getsockname()[1])
        batch = CallBatch(name="probe", inputs=[call], call_timeouts=[10.0], timeout=PROBE_SECONDS)
        request = Request(code=PROBE, entry_point="probe", batches=[batch])
        sandbox = Sandbox(backend, runtime_dir)
        requests = [replace(request, syscall_filter=False), request]
        return next(filter(None, (_run_probe(sandbox, r) for r in requests)), "")


def _run_probe(sandbox: Sandbox, request: Request) -> str:
    try:
        with sandbox.start(request, 1 << 16) as process:
            lines = list(process.lines())
        if not lines or not lines[0].startswith(b"v"):
            return "does not start"
        return ", ".join(map(str, values.decode(lines[0][1:])))
    except (OSError, LimitExceeded, ValueError) as error:
        return f"does not start ({error or type(error).__name__})"
