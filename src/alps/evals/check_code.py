"""Judges functions that a model wrote: builds a program that runs a row's tests, and runs it.

A program passes when its output holds a token that it writes as its last act. The function under
test never gets the token as a value, so ending the process early, with whatever exit code, does
not pass. Code that reads its own source or its caller's frames could find it: this guards
against accidents, not against an adversary.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_OUTPUT_BYTES = 64 * 1024
MAX_MEMORY_BYTES = 1024**3

_PROGRAM = '''\
import json
import os
import sys
import traceback

try:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, ({max_memory_bytes}, {max_memory_bytes}))
except (ImportError, OSError, ValueError):  # no such limit here, or a lower one is in force
    pass


def same(got, expected):
    """Plain equality, and the same types all the way down: True is not 1, nor 1.0 the same as 1."""
    if type(got) is not type(expected):
        return False
    if type(got) is list:
        return len(got) == len(expected) and all(map(same, got, expected))
    if type(got) is dict:
        return got.keys() == expected.keys() and all(same(got[k], expected[k]) for k in expected)
    return got == expected


def run(write=os.write):
    code, entry_point, tests = json.loads({settings})
    namespace = {{"__name__": "completion"}}
    exec(compile(code, "completion", "exec"), namespace)
    function = namespace[entry_point]
    for arguments, expected in json.loads(tests):
        if not same(function(*arguments), expected):
            raise AssertionError(f"wrong answer for {{arguments}}")
    write(1, b"\\n{token}\\n")


try:
    run()
except BaseException:
    traceback.print_exc()
    sys.exit(1)
'''
_FENCE = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def program(completion: str, check: Mapping[str, Any], token: str) -> str:
    """Builds the program that tests a completion.

    Args:
        completion: What the model wrote. The first fenced block that defines the function counts,
            else the first one, else the whole text.
        check: The row's check: `entry_point`, and `tests` as pairs of arguments and what the
            function must return for them.
        token: Letters and digits that nobody can guess; the program writes them on a line of
            their own, as its last act, if every test passes.

    Returns:
        Python source that needs nothing else. It ends with exit code 0 if all tests pass.
    """
    assert token.isascii() and token.isalnum(), "the token stands in source code"
    name = check["entry_point"]
    blocks = _FENCE.findall(completion)
    defining = [block for block in blocks if re.search(rf"^def {re.escape(name)}\b", block, re.M)]
    code = [*defining, *blocks, completion][0]
    settings = json.dumps([code, name, json.dumps(check["tests"])])
    return _PROGRAM.format(settings=repr(settings), token=token, max_memory_bytes=MAX_MEMORY_BYTES)


def run_unprotected(source: str, token: str, timeout_seconds: float) -> bool:
    """Runs a program in a process of its own and says whether it wrote its token in time.

    This is NO sandbox. The program has every right of the user who calls this: it can read and
    delete files, use the network, and leave its process group to outlive the call. Callers must
    have the user's explicit consent to run a model's code without protection.

    The process starts in an empty temporary directory, with next to no environment and without
    input. At the end, which is also when time is up or its output passes `MAX_OUTPUT_BYTES`, its
    whole process group is killed.

    Args:
        source: What `program` returned.
        token: The token it was built with.
        timeout_seconds: Wall-clock time it may take.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        path = Path(directory, "program.py")
        path.write_text(source, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, "-I", path],
            cwd=directory,
            env={"PATH": os.defpath, "HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return _writes(process, f"\n{token}\n".encode(), timeout_seconds)
            finally:
                # Nothing has waited for the process yet, so its group's number is still its own.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)


def _writes(process: subprocess.Popen[bytes], line: bytes, timeout_seconds: float) -> bool:
    """Reads until the line comes, the output ends or grows too long, or time is up."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_seconds
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(output) <= MAX_OUTPUT_BYTES and (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                chunk = os.read(process.stdout.fileno(), 4096)
                output += chunk
                if not chunk or line in output[-len(chunk) - len(line) :]:
                    return bool(chunk)
    return False
