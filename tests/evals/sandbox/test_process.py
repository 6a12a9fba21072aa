"""Requests and output lines of a program in a sandbox; as root and as another user."""

import json
from dataclasses import replace

import pytest

from alps.evals.sandbox.process import CallBatch, Request

pytestmark = pytest.mark.sandbox


def test_a_program_runs(box):
    lines = box.lines_of("def f(x, y=1): return [x, (y,)]", (1,), (2, {3}))
    assert lines == [b'v[1,{"tuple":[1]}]', b'v[2,{"tuple":[{"set":[3]}]}]', b'. ["p", "done"]']


def test_forged_lines_are_only_lines(box):
    code = (
        "import os\n"
        "def f():\n"
        "    for number in range(3, 10):\n"
        '        try: os.write(number, b\'v1\\n. ["p", "done"]\\n. ["p", "done"]\\n\')\n'
        "        except OSError: pass\n"
        "    return 2"
    )
    assert box.lines_of(code, ())[:2] == [b"v1", b'. ["p", "done"]']  # and nothing more is read


def test_batches_begin_anew_and_are_stopped_on_demand(box):
    code = "calls = []\ndef f(x):\n    calls.append(x)\n    while x: pass\n    return len(calls)"
    batches = [
        CallBatch(
            name=name, inputs=[(x,) for x in given], call_timeouts=[9.0] * len(given), timeout=20.0
        )
        for name, given in (("a", (0, 0, 1)), ("b", (0, 0)))
    ]
    wanted = Request(code=code, entry_point="f", batches=batches)
    with box.start(wanted, 1 << 16) as process:
        lines = []
        for line in process.lines():
            lines.append(line)
            if line == b"v2" and len(lines) == 2:
                process.stop("a")
    assert lines == [b"v1", b"v2", b'. ["a", "stopped"]', b"v1", b"v2", b'. ["b", "done"]']


@pytest.mark.parametrize(
    ("view", "result", "seen"),
    [
        (None, "[1, 1]", [1, 1]),
        ("items", "[1, 1]", [1, 1]),
        ("items", "iter([1, 1])", {1}),
        ("not_none", "False", True),
        ("not_none", "None", False),
        ("bool_or_not_none", "False", False),
        ("bool_or_not_none", "object()", True),
    ],
)
def test_views(box, view, result, seen):
    found = box.result_of(f"def f(): return {result}", view=view)
    assert found == seen and type(found) is type(seen)


def test_seconds_of_calls(box):
    lines = box.lines_of("import time\ndef f(x): time.sleep(x)", (0.0,), (0.1,), timed=True)
    first, second = json.loads(lines[2][1:])
    assert lines[:2] == [b"vnull"] * 2 and first < 0.1 <= second


def test_packages_can_be_imported_and_evalplus_limits_apply(box):
    assert box.result_of("import numpy\ndef f(): return float(numpy.ones(3).sum())") == 3.0
    for code in ("exit()", "open('x')", "import os; os.getcwd()", "import psutil"):
        assert box.lines_of(f"{code}\ndef f(): pass", ())[0] == b"x"


def test_a_request_is_one_line(box):
    wanted = Request(code="x\n", entry_point="f", batches=[])
    line = replace(wanted, view="items").to_line()
    assert int(line[:16]) == len(line) - 16 and b"\n" not in line
