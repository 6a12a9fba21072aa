"""Programs that use resources without end, each in a sandbox; as root and as another user."""

import os
import select
import sys
import time

import pytest

from alps.evals.sandbox import process as sandbox_process
from alps.evals.sandbox.isolation import MAX_PROCESSES
from alps.evals.sandbox.process import CallBatch, OutputLimitExceeded, Request, TimeLimitExceeded

pytestmark = pytest.mark.sandbox


FORKS = """
import posix, time
def f():
    count = 0
    try:
        while True:
            if posix.fork() == 0:
                posix.setsid()
                time.sleep(60)
                posix._exit(0)
            count += 1
    except OSError as error:
        return count, type(error).__name__
"""


def test_forking_without_end(box):
    assert box.result_of(FORKS) == (0, "PermissionError")
    count, name = box.result_of(FORKS, syscall_filter=False, memory=None)
    assert 0 < count <= MAX_PROCESSES and name == "BlockingIOError"


def test_nothing_of_it_is_left(box):
    """Who lives on holds the end of the pipe that results come through."""
    batches = [CallBatch(name="p", inputs=[()], call_timeouts=[4.0], timeout=5.0)]
    wanted = Request(
        code=FORKS, entry_point="f", batches=batches, syscall_filter=False, memory=None
    )
    with box.start(wanted, 1 << 16) as process:
        pipe = os.dup(process._stdout)
        next(iter(process.lines()))  # the children sleep
    began = time.monotonic()
    while time.monotonic() < began + 10 and select.select([pipe], [], [], 10)[0]:
        if not os.read(pipe, 1 << 16):
            break
    else:
        raise AssertionError("somebody still holds the pipe")
    os.close(pipe)


def test_starting_programs(box):
    code = "import os\ndef f(path): return os.posix_spawn(path, [path], {})"
    assert box.result_of(code, "/lib64/ld-linux-x86-64.so.2")[:1] == b"e"
    code = "import os\ndef f(path): os.execv(path, [path, '-c', '1'])"
    assert box.result_of(code, os.path.realpath(sys.executable)) == b'e"PermissionError"'


def test_threads_are_fine(box):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def f(x):\n"
        "    with ThreadPoolExecutor(2) as pool:\n"
        "        return list(pool.map(abs, x))"
    )
    assert box.result_of(code, [-1, 2]) == [1, 2]


def test_allocating_without_end(box):
    code = "def f():\n    kept = []\n    while True: kept.append(bytearray(1 << 24))"
    assert box.result_of(code) == b'e"MemoryError"'
    shared = "import mmap\ndef f(): return len(mmap.mmap(-1, 1 << 30))"
    assert box.result_of(shared)[:1] == b"e"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ndef f(): time.sleep(1000)",
        "def f():\n    while True: pass",
        "import os\ndef f(): return os.read(0, 1) or input()",
    ],
)
def test_what_takes_forever_is_called_slow_or_fails(box, code):
    assert box.result_of(code, limit=0.2)[:1] in (b"t", b"e")


def test_ignoring_every_signal(box):
    code = (
        "import signal, time\n"
        "def f():\n"
        "    for number in range(1, 65):\n"
        "        try:\n"
        "            signal.signal(number, signal.SIG_IGN)\n"
        "        except (OSError, ValueError):\n"
        "            pass\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(1)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    assert box.lines_of(code, (), seconds=0.7, limit=0.2) == [b'. ["p", "too slow"]']


def test_a_runner_that_stops_is_killed_from_outside(box, monkeypatch):
    monkeypatch.setattr(sandbox_process, "STARTUP_SECONDS", 1.0)
    stop = "import os, posix, signal\ndef f():\n    posix.kill(os.getppid(), signal.SIGSTOP)\n"
    forever = "    while True: pass"
    with pytest.raises(TimeLimitExceeded):
        box.lines_of(stop + forever, (), seconds=0.5)


@pytest.mark.parametrize("whom", ["os.getppid()", "1", "-1", "0"])
def test_killing_others(box, whom):
    code = f"import os, posix\ndef f():\n    posix.kill({whom}, 9)\n    return 1"
    lines = box.lines_of(code, ())
    refused = b'e"PermissionError"', b'e"ProcessLookupError"'
    ends = b'. ["p", "died"]', b'. ["p", "done"]'
    assert all(line in (b"v1", *refused, *ends) for line in lines)
    assert box.result_of("def f(): return 2") == 2


def test_flooding_the_output(box):
    code = "import os\ndef f():\n    while True: print('x' * 10**6)"
    assert box.result_of(code, limit=0.3) == b"t"
    raw = (
        "import os\n"
        "def f():\n"
        "    while True:\n"
        "        for number in range(3, 64):\n"
        "            try: os.write(number, b'x' * 10**6)\n"
        "            except OSError: pass"
    )
    with pytest.raises(OutputLimitExceeded):
        box.lines_of(raw, ())


def test_a_result_of_a_gigabyte(box):
    with pytest.raises(OutputLimitExceeded):
        box.lines_of("def f(): return 'x' * 10**8", ())
    assert box.result_of("def f(): return 'x' * 10**9") == b'e"MemoryError"'


@pytest.mark.parametrize("decorator", ["", "@functools.lru_cache(None)\n"])
def test_recursing_without_end(box, decorator):
    code = f"import sys, functools\n{decorator}def f(x=0): return f(x + 1)"
    assert box.result_of(code) == b'e"RecursionError"'
    deep = code.replace("functools\n", "functools\nsys.setrecursionlimit(10**9)\n", 1)
    assert box.result_of(deep, seconds=2.0)[:2] in (b". ", b'e"', b"t")
