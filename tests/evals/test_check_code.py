import os
import subprocess
import sys
import time

import pytest

from alps.evals.check_code import program, run_unprotected

TOKEN = "a1b2c3"
CHECK = {"entry_point": "double", "tests": [[[2], 4], [[0], 0]]}
RIGHT = "def double(x):\n    return x * 2\n"


def passes(completion, check=CHECK, timeout_seconds=5.0):
    return run_unprotected(program(completion, check, TOKEN), TOKEN, timeout_seconds)


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        f"```python\n{RIGHT}```",
        f"Here it is:\n\n```\n{RIGHT}```\nDone.",
        f"```python\n{RIGHT}",
        f"```sh\npip install double\n```\n```python\n{RIGHT}```",
        f"```python\nimport math\n\n{RIGHT}\nprint(double(2))\n```",
        f"```python\n{RIGHT}\nif __name__ == '__main__':\n    raise SystemExit\n```",
    ],
)
def test_a_right_function_passes_wherever_it_stands(completion):
    assert passes(completion)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I cannot do that.",
        "def other(x):\n    return x * 2",
        "def double(x):\n    return x + 2",
        "def double(x):\n    return x * 2.0",
        "def double(x):\n    print(x * 2)",
        "def double(x:\n    return x * 2",
        "def double(x):\n    raise ValueError(x)",
        "double = None",
        "def double(x):\n    return x * 2\nbytearray(4 * 1024**3)",
        "def double(x):\n    return x * 2\nopen(0).read()\ninput()",
        "\x00",
        "x = '\ud800'",
    ],
)
def test_a_wrong_function_fails(completion):
    assert not passes(completion)


@pytest.mark.parametrize(
    "leave",
    ["exit()", "sys.exit(0)", "os._exit(0)", "raise SystemExit", "os.kill(os.getpid(), 9)"],
)
@pytest.mark.parametrize("where", ["outside", "inside"])
def test_leaving_early_does_not_pass(leave, where):
    inside = f"import os, sys\ndef double(x):\n    {leave}\n"
    outside = f"import os, sys\n{RIGHT}\n{leave}\n"
    assert not passes(inside if where == "inside" else outside)


def test_printing_another_token_does_not_pass():
    assert not passes("print('\\nffffff\\n', flush=True)\nimport os\nos._exit(0)")


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("1", True, False),
        ("True", 1, False),
        ("1.0", 1, False),
        ("(1, 2)", [1, 2], False),
        ("[1, True]", [1, 1], False),
        ("{'a': [1.0]}", {"a": [1]}, False),
        ("{'a': 1, 'b': 2}", {"b": 2, "a": 1}, True),
        ("[1, [None, 'x']]", [1, [None, "x"]], True),
        ("[1]", [1, 2], False),
        ("None", None, True),
    ],
)
def test_equality_looks_at_types_all_the_way_down(got, expected, same):
    check = {"entry_point": "give", "tests": [[[], expected]]}
    assert passes(f"def give():\n    return {got}", check) is same


def test_every_test_counts():
    assert not passes(RIGHT, {"entry_point": "double", "tests": [[[2], 4], [[3], 7]]})


@pytest.mark.parametrize(("completion", "code"), [(RIGHT, 0), ("import sys; sys.exit(0)", 1)])
def test_the_exit_code_says_whether_all_tests_passed(completion, code):
    source = program(completion, CHECK, TOKEN)
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, check=False)
    assert done.returncode == code
    assert (TOKEN.encode() in done.stdout.split()) is (code == 0)


def test_time_out_kills_the_children_too(tmp_path):
    note = tmp_path / "child"
    completion = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    start = time.monotonic()
    assert not passes(completion, timeout_seconds=1.0)
    assert time.monotonic() - start < 5
    assert gone(int(note.read_text()))


def test_a_child_left_behind_neither_holds_up_the_answer_nor_lives_on(tmp_path):
    note = tmp_path / "child"
    completion = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n{RIGHT}"
    )
    start = time.monotonic()
    assert passes(completion, timeout_seconds=20.0)
    assert time.monotonic() - start < 10
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("text", ["'x' * 10000", "''"])
def test_endless_output_ends(text):
    start = time.monotonic()
    assert not passes(f"while True:\n    print({text}, flush=True)", timeout_seconds=2.0)
    assert time.monotonic() - start < 6


def test_the_program_sees_neither_the_callers_environment_nor_folder(monkeypatch):
    monkeypatch.setenv("ALPS_TEST_SECRET", "1")
    here = f"assert os.getcwd() != {os.getcwd()!r}"
    assert passes(f"import os\nassert 'ALPS_TEST_SECRET' not in os.environ\n{here}\n{RIGHT}")
    assert not passes(f"import os\nassert 'ALPS_TEST_SECRET' in os.environ\n{RIGHT}")


@pytest.mark.parametrize("token", ["", "a b", "'", "ä"])
def test_a_token_that_is_no_plain_word_is_refused(token):
    with pytest.raises(AssertionError, match="token"):
        program(RIGHT, CHECK, token)


def gone(pid):
    """Waits shortly for a killed process to go; a zombie that nobody reaped counts as gone."""
    for _ in range(50):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
