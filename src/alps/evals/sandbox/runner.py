"""Runs one program inside a sandbox: started there as `python -I -S`, with its two neighbours.

    sandbox_runner.pyc SPEC

SPEC (JSON) says whether it is isolated, and as which user to go on. The first line of the standard
input is the request; each part of it (the base tests, the added ones) runs in a process of its own,
as in EvalPlus, and begins by reading the program anew. What goes back is lines of bytes: `v` and a
value, `e` and the name of an error, `t` for a call that ran out of time, `x` for a program that
cannot be read, `s` and the seconds of all calls, `.` and how a part ended. The reader trusts none
of it: the program could write them, too. It never sees what is expected.
"""

from __future__ import annotations

import builtins
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

# Started as a file, its neighbours are beside it; imported, they are modules of the package.
if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    import sandbox_isolation as isolation  # pyright: ignore[reportMissingImports]
    import sandbox_values as values  # pyright: ignore[reportMissingImports]

    del sys.path[0]
else:
    from alps.evals.sandbox import isolation, values

# What EvalPlus takes away from a program (`evalplus.eval.utils.reliability_guard`); nothing here
# rests on it, but a program that uses it fails there and must fail here.
TAKEN_FROM_OS = (
    "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork",
    "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
    "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
)  # fmt: skip
TAKEN_FROM_BUILTINS = ("exit", "quit", "open", "help")
LOADED_BEFORE = ("multiprocessing", "numpy", "pandas")
"""EvalPlus has them loaded when it begins to take away; afterwards they could not be."""

TAKEN_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")


class OutOfTime(Exception):
    """Raised in a program by the clock."""


def main(spec: Mapping[str, Any]) -> None:
    """Gives up its rights, reads the request and runs its parts."""
    if spec["isolated"]:
        isolation.give_up_rights(spec["user"])
    sys.path += spec["packages"]
    request = json.loads(_line())
    results = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    for part in request["parts"]:
        _run_part(part, request, results)


def _line() -> bytes:
    """The first line of the input; what follows it stays in the pipe."""
    size = int(os.read(0, 16))
    found = bytearray()
    while len(found) < size:
        found += os.read(0, min(1 << 20, size - len(found))) or sys.exit("no request")
    return bytes(found)


def _run_part(part: Mapping[str, Any], request: Mapping[str, Any], results: int) -> None:
    """Starts a process for a part, and ends it when it is done, takes too long or is told to."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            _child(part, request, results)
        finally:
            os._exit(1)
    ended = "stopped"
    pause = 0.0005
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            ended = "done" if status == 0 else "died"
            break
        if time.monotonic() - began > part["seconds"]:
            ended = "too slow"
            break
        if select.select([0], [], [], pause)[0] and _told_to_stop(part["name"]):
            break
        pause = min(2 * pause, 0.02)
    if not done:
        for end in (os.killpg, os.kill):
            with suppress(OSError):
                end(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _write(results, b"\n. " + json.dumps([part["name"], ended]).encode() + b"\n")


def _told_to_stop(name: str) -> bool:
    """Whether the other side wants no more of this part; without it there is nobody to tell."""
    said = os.read(0, 4096)
    if not said:
        os._exit(1)
    return name in said.decode("ascii", "replace").split()


def _child(part: Mapping[str, Any], request: Mapping[str, Any], results: int) -> None:
    """Runs the program on the inputs of a part, up to the first that fails."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    isolation.limit(request["memory"], part["seconds"] * 2)
    if request["filter"]:
        isolation.refuse_calls()
    inputs = values.unpack(part["inputs"])
    out = _Lines(results, request["timed"])
    _load_what_evalplus_has(request["code"])
    _take_away()
    try:
        scope: dict[str, Any] = {}
        exec(request["code"], scope)
        function = scope[request["entry_point"]]
    except BaseException:
        out.unreadable()
        os._exit(0)
    for given, seconds in zip(inputs, part["limits"], strict=True):
        began = time.monotonic()
        try:
            result = _within(seconds, function, given)
            took = time.monotonic() - began
            line = values.encode(_seen(result, request["view"]))
        except BaseException as error:
            out.failed(error)
            break
        out.line(b"v" + line, took)
    else:
        out.end()
    os._exit(0)


def _within(seconds: float, function: Callable, given: Sequence) -> Any:
    """One call, ended by the clock as in EvalPlus: a program may catch what the clock raises."""

    def ring(*_: Any) -> None:
        raise OutOfTime

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, ring)
    try:
        return function(*given)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _seen(result: Any, view: str | None) -> Any:
    """What the rules look at: the value itself, its items, or whether there is one."""
    if view == "given":
        return result is not None
    if view == "truth":
        return result if isinstance(result, bool) else result is not None
    if view == "items" and type(result) not in (list, tuple, set, frozenset, dict, str):
        return set(result)
    return result


class _Lines:
    """What goes back, each line as soon as it is there."""

    def __init__(self, results: int, timed: bool):
        self._results = results
        self._seconds: list[float] | None = [] if timed else None

    def line(self, line: bytes, seconds: float) -> None:
        if self._seconds is not None:
            self._seconds.append(seconds)
        _write(self._results, line + b"\n")

    def failed(self, error: BaseException) -> None:
        slow = isinstance(error, OutOfTime)
        name = json.dumps(type(error).__name__[:80]).encode()
        _write(self._results, b"t\n" if slow else b"e" + name + b"\n")

    def unreadable(self) -> None:
        _write(self._results, b"x\n")

    def end(self) -> None:
        if self._seconds is not None:
            _write(self._results, b"s" + json.dumps(self._seconds).encode() + b"\n")


def _write(results: int, line: bytes) -> None:
    while line:
        line = line[os.write(results, line) :]


def _load_what_evalplus_has(code: str) -> None:
    for name in LOADED_BEFORE:
        if name in code:
            with suppress(Exception):
                __import__(name)


def _take_away() -> None:
    for name in TAKEN_FROM_OS:
        setattr(os, name, None)
    for name in TAKEN_FROM_BUILTINS:
        setattr(builtins, name, None)
    for name in TAKEN_MODULES:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    sys.stdin = open_nothing()


def open_nothing() -> Any:
    """An input that cannot be read, as EvalPlus gives it."""
    import io

    return io.TextIOWrapper(io.FileIO(1, "w", closefd=False))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
