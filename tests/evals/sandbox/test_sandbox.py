"""Hostile programs, each in a sandbox of its own. These tests run as root and as another user."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from alps.evals.sandbox import sandbox
from alps.evals.sandbox.backend import UNPROTECTED, Backend
from alps.evals.sandbox.sandbox import Part, Request, find, leaks, no_sandbox
from alps.evals.sandbox.values import Other, decode

pytestmark = pytest.mark.sandbox


def test_a_program_runs(box):
    lines = box.lines_of("def f(x, y=1): return [x, (y,)]", (1,), (2, {3}))
    assert lines == [b'v[1,{"tuple":[1]}]', b'v[2,{"tuple":[{"set":[3]}]}]', b'. ["p", "done"]']


def test_it_holds_and_no_protection_would_not(box):
    assert leaks(box.backend) == ""
    found = leaks(UNPROTECTED)
    for what in ("reads files", "writes files", "opens connections", "lists /proc"):
        assert what in found


def test_the_environment_of_the_caller_stays_outside(box, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code = "import os\ndef f(): return {**os.environ, 'b': repr(os.environb)}"
    found = box.result_of(code)
    assert "hf_secret" not in str(found)
    assert set(found) <= {"PWD", "LC_CTYPE", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "b"}


def test_files_of_the_host_cannot_be_seen(box, tmp_path):
    (tmp_path / "secret").write_text("secret")
    code = (
        "import os\n"
        "def f(paths):\n"
        "    return sorted(os.listdir('/')), [p for p in paths if os.path.lexists(p)]"
    )
    paths = ["/etc/passwd", "/etc/shadow", "/home", "/proc", "/sys", "/usr/bin/sh"]
    paths += [str(tmp_path), str(Path(__file__))]
    root, seen = box.result_of(code, [*paths, *(f"/..{path}" for path in paths)])
    assert seen == [] and not {"home", "proc", "sys", "run", "var", "boot"} & set(root)


def test_nothing_can_be_written(box):
    code = (
        "import os\n"
        "def f():\n"
        "    made = []\n"
        "    for place, folders, _ in os.walk('/'):\n"
        "        folders[:] = folders if place.count('/') < 3 else []\n"
        "        for way in (os.mkdir, lambda p: os.open(p, os.O_CREAT | os.O_RDWR)):\n"
        "            try:\n"
        "                way(place + '/made')\n"
        "                made.append(place)\n"
        "            except OSError:\n"
        "                pass\n"
        "    return made"
    )
    assert box.result_of(code) == []
    memory = "import os\ndef f(): return os.write(os.memfd_create('x'), b'x')"
    assert box.result_of(memory) == b'e"PermissionError"'
    assert box.result_of(memory, filter=False) == b'e"OSError"'


def test_there_is_no_network(box):
    code = (
        "import socket\n"
        "def f(port, name):\n"
        "    said = []\n"
        "    for kind, place in ((socket.AF_INET, ('127.0.0.1', port)), (socket.AF_UNIX, name)):\n"
        "        try:\n"
        "            socket.socket(kind, socket.SOCK_STREAM).connect(place)\n"
        "            said.append('connected')\n"
        "        except OSError as error:\n"
        "            said.append(type(error).__name__)\n"
        "    return said"
    )
    abstract = socket.socket(socket.AF_UNIX)
    name = f"\0alps-{os.getpid()}-{box.backend.name}"
    with socket.create_server(("127.0.0.1", 0)) as server, abstract:
        abstract.bind(name)
        abstract.listen()
        port = server.getsockname()[1]
        for on in (True, False):  # the filter, and the namespace behind it
            assert "connected" not in box.result_of(code, port, name, filter=on)


def test_an_object_equal_to_everything_is_an_object_of_a_class(box):
    code = "class E:\n    def __eq__(self, x): return True\ndef f(): return [E(), 1]"
    found = box.result_of(code)
    assert isinstance(found[0], Other) and found[0] != 1 and found[1] == 1


def test_patching_what_encodes_only_changes_the_own_result(box):
    code = (
        "import json, builtins, sys\n"
        "for module in list(sys.modules.values()):\n"
        "    if hasattr(module, 'encode') and hasattr(module, 'Other'): module.encode = bytes\n"
        "json.dumps = lambda *a, **k: '[' * 100000\n"
        "builtins.type = lambda x: None\n"
        "def f(): return 1"
    )
    with pytest.raises(ValueError):
        line = box.lines_of(code, ())[0]
        raise ValueError if line[:1] != b"v" else decode(line[1:])


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


def test_parts_begin_anew_and_are_stopped_on_demand(box):
    code = "calls = []\ndef f(x):\n    calls.append(x)\n    while x: pass\n    return len(calls)"
    parts = [
        Part(name=name, inputs=[(x,) for x in given], limits=[9.0] * len(given), seconds=20.0)
        for name, given in (("a", (0, 0, 1)), ("b", (0, 0)))
    ]
    wanted = Request(code=code, entry_point="f", parts=parts)
    with box.started(wanted, 1 << 16) as conversation:
        lines = []
        for line in conversation.lines():
            lines.append(line)
            if line == b"v2" and len(lines) == 2:
                conversation.stop("a")
    assert lines == [b"v1", b"v2", b'. ["a", "stopped"]', b"v1", b"v2", b'. ["b", "done"]']


@pytest.mark.parametrize(
    ("view", "result", "seen"),
    [
        (None, "[1, 1]", [1, 1]),
        ("items", "[1, 1]", [1, 1]),
        ("items", "iter([1, 1])", {1}),
        ("given", "False", True),
        ("given", "None", False),
        ("truth", "False", False),
        ("truth", "object()", True),
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


def test_rights_are_gone(box):
    code = (
        "import ctypes, os, struct\n"
        "def f():\n"
        "    data = ctypes.create_string_buffer(24)\n"
        "    head = struct.pack('Ii', 0x20080522, 0)\n"
        "    ctypes.CDLL(None).capget(head, data)\n"
        "    mounted = ctypes.CDLL(None).mount(b'none', b'/usr', b'tmpfs', 0, None)\n"
        "    unshared = ctypes.CDLL(None).unshare(0x10000000)\n"
        "    return data.raw, ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), mounted, unshared"
    )
    rights, none_to_come, mounted, unshared = box.result_of(code)
    assert rights == bytes(24) and none_to_come == 1 and mounted == unshared == -1
    if os.geteuid() == 0:
        who = "import os\ndef f(): return os.getresuid() + os.getresgid(), os.getgroups()"
        [user, *others], groups = box.result_of(who)
        assert user > 60000 and set(others) == {user} and groups == []


@pytest.fixture
def find_anew():
    """What a process remembers of its sandbox is forgotten, before and after."""
    for remembered in (find, no_sandbox):
        remembered.cache_clear()
    yield
    for remembered in (find, no_sandbox):
        remembered.cache_clear()


def test_a_backend_that_does_not_start_is_named(monkeypatch, find_anew):
    broken = Backend("bubblewrap", "/bin/false")
    parts = [Part(name="p", inputs=[()], limits=[4.0], seconds=5.0)]
    wanted = Request(code="def f(): return 1", entry_point="f", parts=parts)
    assert leaks(broken).startswith("does not start")
    monkeypatch.setattr(sandbox, "installed", lambda: broken)
    assert find() is None
    with pytest.raises(
        ValueError, match=r"does not hold here \(does not start.*namespaces.*unsafe"
    ):
        sandbox.sandbox().__enter__()
    with sandbox.sandbox(allow_unsafe=True) as box, box.started(wanted, 1 << 16) as running:
        assert box.backend == UNPROTECTED and next(running.lines()) == b"v1"


def test_a_backend_that_leaks_is_none(monkeypatch, find_anew):
    monkeypatch.setattr(sandbox, "installed", lambda: Backend("bubblewrap", "/usr/bin/bwrap"))
    monkeypatch.setattr(sandbox, "leaks", lambda _: "reads files")
    assert find() is None and "does not hold here (reads files)" in no_sandbox()


def test_without_bubblewrap_the_sentence_says_what_to_install(tmp_path, monkeypatch, find_anew):
    """Other tools that make namespaces don't matter: a verdict must not depend on them."""
    other = tmp_path / "unshare"
    other.symlink_to("/usr/bin/unshare")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"bubblewrap is not installed.*`apt install bubblewrap`"):
        sandbox.sandbox().__enter__()


def test_a_request_is_one_line(box):
    wanted = Request(code="x\n", entry_point="f", parts=[])
    line = replace(wanted, view="items").to_line()
    assert int(line[:16]) == len(line) - 16 and b"\n" not in line
