"""Runs one program inside a sandbox, started there as `python -I -S` beside its two modules.

    sandbox_runner.pyc SPEC

SPEC (JSON) says whether the process is isolated and which user to switch to. The first line of
standard input is the request. Each batch of calls (the base tests, the plus tests) runs in a
process of its own, as in EvalPlus, which first executes the program. Output lines are bytes: `v`
and a value, `e` and the name of an error, `t` for a call that timed out, `x` for a program that
cannot be executed, `s` and the seconds of all calls, `.` and how a batch ended. The reader trusts
no line, since the program could write it. Expected values never enter the sandbox.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

# As a script, its modules are beside it; when imported, they are modules of the package.
if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    import sandbox_isolation as isolation  # pyright: ignore[reportMissingImports]
    import sandbox_values as values  # pyright: ignore[reportMissingImports]

    del sys.path[0]
else:
    from alps.evals.sandbox import isolation, values

# EvalPlus disables these (`evalplus.eval.utils.reliability_guard`). Isolation does not depend on
# it, but a program that uses them fails there and must fail here.
DISABLED_IN_OS = (
    "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork",
    "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
    "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
)  # fmt: skip
DISABLED_BUILTINS = ("exit", "quit", "open", "help")
PRELOADED_MODULES = ("multiprocessing", "numpy", "pandas")
"""EvalPlus loads them before it disables functions; afterwards their import would fail."""

BLOCKED_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")


class CallTimeout(Exception):
    """Raised in a program when the time of a call is over."""


def main(spec: Mapping[str, Any]) -> None:
    """Drops privileges, reads the request and runs its batches."""
    if spec["isolated"]:
        isolation.drop_privileges(spec["user"])
    sys.path += spec["packages"]
    request = json.loads(_read_request())
    output = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    for batch in request["batches"]:
        _run_batch(batch, request, output)


def _read_request() -> bytes:
    """The first line of the input; stop messages after it stay in the pipe."""
    size = int(os.read(0, 16))
    content = bytearray()
    while len(content) < size:
        content += os.read(0, min(1 << 20, size - len(content))) or sys.exit("no request")
    return bytes(content)


def _run_batch(batch: Mapping[str, Any], request: Mapping[str, Any], output: int) -> None:
    """Runs a batch in a child process and kills it at its time limit or on request."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            _run_calls(batch, request, output)
        finally:
            os._exit(1)
    end = "stopped"
    pause = 0.0005
    while True:
        exited, status = os.waitpid(child, os.WNOHANG)
        if exited:
            end = "done" if status == 0 else "died"
            break
        if time.monotonic() - began > batch["timeout"]:
            end = "too slow"
            break
        if select.select([0], [], [], pause)[0] and _stop_requested(batch["name"]):
            break
        pause = min(2 * pause, 0.02)
    if not exited:
        for kill in (os.killpg, os.kill):
            with suppress(OSError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _write(output, b"\n. " + json.dumps([batch["name"], end]).encode() + b"\n")


def _stop_requested(batch: str) -> bool:
    """Whether the caller stops this batch; exits if the caller is gone."""
    message = os.read(0, 4096)
    if not message:
        os._exit(1)
    return batch in message.decode("ascii", "replace").split()


def _run_calls(batch: Mapping[str, Any], request: Mapping[str, Any], output: int) -> None:
    """Executes the program and makes the calls of a batch, up to the first that fails."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    isolation.set_resource_limits(request["memory"], batch["timeout"] * 2)
    if request["syscall_filter"]:
        isolation.install_syscall_filter()
    inputs = values.unpack(batch["inputs"])
    _preload_modules(request["code"])
    _disable_functions()
    try:
        scope: dict[str, Any] = {}
        exec(request["code"], scope)
        function = scope[request["entry_point"]]
    except BaseException:
        _write(output, b"x\n")
        os._exit(0)
    seconds: list[float] = []
    for arguments, timeout in zip(inputs, batch["call_timeouts"], strict=True):
        began = time.monotonic()
        try:
            result = _call(function, arguments, timeout)
            seconds.append(time.monotonic() - began)
            line = b"v" + values.encode(apply_view(result, request["view"]))
        except CallTimeout:
            _write(output, b"t\n")
            break
        except BaseException as error:
            _write(output, b"e" + json.dumps(type(error).__name__[:80]).encode() + b"\n")
            break
        _write(output, line + b"\n")
    else:
        if request["timed"]:
            _write(output, b"s" + json.dumps(seconds).encode() + b"\n")
    os._exit(0)


def _call(function: Callable, arguments: Sequence, timeout: float) -> Any:
    """One call with EvalPlus' kind of timeout: the program may catch the exception."""

    def on_alarm(*_: Any) -> None:
        raise CallTimeout

    signal.setitimer(signal.ITIMER_REAL, timeout)
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def apply_view(result: Any, view: str | None) -> Any:
    """The aspect of a result that the rules compare; see `Request.view`."""
    if view == "not_none":
        return result is not None
    if view == "bool_or_not_none":
        return result if isinstance(result, bool) else result is not None
    if view == "items" and type(result) not in (list, tuple, set, frozenset, dict, str):
        return set(result)
    return result


def _write(output: int, line: bytes) -> None:
    while line:
        line = line[os.write(output, line) :]


def _preload_modules(code: str) -> None:
    for name in PRELOADED_MODULES:
        if name in code:
            with suppress(Exception):
                __import__(name)


def _disable_functions() -> None:
    for name in DISABLED_IN_OS:
        setattr(os, name, None)
    for name in DISABLED_BUILTINS:
        setattr(builtins, name, None)
    for name in BLOCKED_MODULES:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    sys.stdin = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))  # unreadable, as in EvalPlus


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
