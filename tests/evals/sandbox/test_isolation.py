"""Isolation of one program in a sandbox; as root and as another user."""

import os
import socket
from pathlib import Path

import pytest

from alps.evals.sandbox.values import OpaqueObject, decode

pytestmark = pytest.mark.sandbox


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
    assert box.result_of(memory, syscall_filter=False) == b'e"OSError"'


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
            assert "connected" not in box.result_of(code, port, name, syscall_filter=on)


def test_an_object_equal_to_everything_is_an_object_of_a_class(box):
    code = "class E:\n    def __eq__(self, x): return True\ndef f(): return [E(), 1]"
    found = box.result_of(code)
    assert isinstance(found[0], OpaqueObject) and found[0] != 1 and found[1] == 1


def test_patching_what_encodes_only_changes_the_own_result(box):
    code = (
        "import json, builtins, sys\n"
        "for module in list(sys.modules.values()):\n"
        "    if hasattr(module, 'encode') and hasattr(module, 'OpaqueObject'):\n"
        "        module.encode = bytes\n"
        "json.dumps = lambda *a, **k: '[' * 100000\n"
        "builtins.type = lambda x: None\n"
        "def f(): return 1"
    )
    with pytest.raises(ValueError):
        line = box.lines_of(code, ())[0]
        raise ValueError if line[:1] != b"v" else decode(line[1:])


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
