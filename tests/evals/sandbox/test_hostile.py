"""Hostile programs among honest ones, through all of the judge."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.scoring import score
from alps.evals.evalplus.verdicts import Verdicts
from alps.evals.sandbox.availability import available_backend

pytestmark = [pytest.mark.sandbox]

RIGHT = "def double(x):\n    return 2 * x\n"
WRONG = "def double(x):\n    return 3 * x\n"

HOSTILE = {
    "reads a token": """
import os, io
def double(x):
    for path in ("/proc/self/environ", "/proc/1/environ", "/proc/%d/environ" % os.getppid()):
        try:
            if "hf_secret" in io.open(path).read():
                return 2 * x
        except OSError:
            pass
    if "hf_secret" in str(os.environ):
        return 2 * x
    raise OSError
""",
    "opens a socket": """
import socket
def double(x):
    socket.create_connection(("127.0.0.1", PORT), 1).close()
    return 2 * x
""",
    "reads a file": """
import io
def double(x):
    return 2 * x if io.open("SECRET").read() else 0
""",
    "writes a file": """
import io
def double(x):
    io.open("FOLDER/written", "w").write("here")
    return 2 * x
""",
    "forks without end": """
import posix
def double(x):
    while True:
        posix.fork()
    return 2 * x
""",
    "allocates without end": """
def double(x):
    kept = []
    while True:
        kept.append(bytearray(1 << 28))
    return 2 * x
""",
    "sleeps": """
import time
def double(x):
    time.sleep(10**6)
    return 2 * x
""",
    "ignores signals": """
import signal
def double(x):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass
    return 2 * x
""",
    "kills its parent": """
import os, posix
def double(x):
    try:
        posix.kill(os.getppid(), 9)
    finally:
        posix.kill(0, 9)
    return 2 * x
""",
    "equal to everything": """
class Equal:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
def double(x):
    return Equal()
""",
    "an integer equal to everything": """
class Equal(int):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    __hash__ = None
def double(x):
    return Equal(7)
""",
    "patches the comparison": """
import builtins, json, sys
import numpy
numpy.allclose = lambda *a, **k: True
builtins.abs = lambda x: 0
for name, module in list(sys.modules.items()):
    for function in ("is_correct", "take", "is_floats", "decode", "unpack"):
        if hasattr(module, function):
            setattr(module, function, lambda *a, **k: True)
def double(x):
    return 0
""",
    "rewrites results": """
import io, os
def double(x):
    for place in ("FOLDER", "/tmp", os.sep):
        for name in ("verdicts.json", "judging/answers.0.jsonl", "eval_results.json"):
            try:
                with io.open(os.path.join(place, name), "a") as file:
                    file.write("[]")
                return 2 * x
            except OSError:
                pass
    for number in range(64):
        try:
            os.write(number, b'v4\\n. ["base", "done"]\\n')
        except OSError:
            pass
    return None
""",
    "says it is done": """
import os
def double(x):
    for number in range(64):
        try:
            os.write(number, b'. ["base", "done"]\\n. ["plus", "done"]\\n')
        except OSError:
            pass
    return 2 * x
""",
    "floods the output": """
import os, sys
def double(x):
    while True:
        print("x" * 10**6)
        sys.stderr.write("x" * 10**6)
    return 2 * x
""",
    "floods the pipe": """
import os
def double(x):
    while True:
        for number in range(3, 16):
            try:
                os.write(number, b"v" * 10**6)
            except OSError:
                pass
    return 2 * x
""",
    "returns a gigabyte": """
def double(x):
    return "x" * 10**9
""",
    "recurses without end": """
import functools, sys
sys.setrecursionlimit(10**9)
@functools.lru_cache(None)
def double(x):
    return double(x + 1)
""",
    "ends at once": "import os\ndef double(x):\n    os._exit(0)\n    return 2 * x\n",
    "returns itself": "def double(x):\n    kept = []\n    kept.append(kept)\n    return kept\n",
}


SLOW = ("ignores signals", "returns a gigabyte")
"""They take all of their time, and again when judged alone; meanwhile the others are judged."""

REQUESTS = ([name for name in HOSTILE if name not in SLOW], *([name] for name in SLOW))


@dataclass(frozen=True)
class Trio:
    """Verdicts of a request, its folder, and the tasks: right, hostile, wrong."""

    verdicts: Verdicts
    folder: Path
    tasks: list[str]

    @property
    def note(self):
        return self.verdicts.notes[self.tasks[1]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory, problems):
    """Hostile program -> verdicts of it between an honest right one and an honest wrong one."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "secret").write_text("secret")

    def judge(names: list[str], port: int) -> dict[str, Trio]:
        own = tmp_path_factory.mktemp("request")
        programs = {}
        for name in names:
            hostile = HOSTILE[name].replace("PORT", str(port)).replace("FOLDER", str(own))
            hostile = hostile.replace("SECRET", str(folder / "secret"))
            for program in (RIGHT, hostile, WRONG):
                programs[f"HumanEval/{len(programs)}"] = program
        found = score(problems(len(programs)), programs, own)
        return {
            name: Trio(found, own, [f"HumanEval/{3 * number + n}" for n in range(3)])
            for number, name in enumerate(names)
        }

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor() as pool,
    ):
        patch.setenv("HF_TOKEN", "hf_secret")
        limits = {"min_time_limit": 0.4, "gt_time_limit_factor": 4.0}
        patch.setattr(evalplus_scoring, "LIMITS", limits)
        patch.setattr(evalplus_scoring, "LONGER_LIMITS", limits)
        patch.setattr(evalplus_scoring, "num_workers", lambda: 2)
        port = server.getsockname()[1]
        found = {}
        for future in [pool.submit(judge, names, port) for names in REQUESTS]:
            found |= future.result()
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert [path.name for path in folder.iterdir()] == ["secret"]
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_it_fails_and_those_beside_it_are_judged_right(judged, name):
    trio = judged[name]
    passed = trio.verdicts.passed(plus=True)
    assert [passed[task] for task in trio.tasks] == [True, False, False], trio.note
    [stock] = trio.verdicts.eval_results["eval"][trio.tasks[1]]
    assert (stock["base_status"], stock["plus_status"]) != ("pass", "pass")


def test_nothing_was_written_but_verdicts(judged):
    for names in REQUESTS:
        found, folder = judged[names[0]].verdicts, judged[names[0]].folder
        assert found.sandbox == available_backend().name
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "samples.jsonl", "samples.raw.jsonl", "problems.jsonl", "eval_results.json",
            "verdicts.json",
        }  # fmt: skip
        assert json.loads((folder / "eval_results.json").read_text()) == found.eval_results


def test_reasons_are_told(judged):
    reasons = {name: trio.note["reason"] for name, trio in judged.items()}
    assert reasons["sleeps"] == reasons["ignores signals"] == "too slow"
    assert reasons["floods the pipe"] == "too much output"
    assert reasons["equal to everything"] == "base tests"


def test_no_process_is_left(judged):
    """A sandbox whose worker is gone would belong to the first process."""
    for _ in range(50):
        own = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = path.read_bytes()
                parent = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if b"sandbox_runner.pyc" in text and parent == "1":
                own.append(text)
        if not own:
            return
        time.sleep(0.1)
    raise AssertionError(own)
