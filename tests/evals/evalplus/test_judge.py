"""The service that judges: what it learns, what it leaves, and how it ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alps.evals.engine.journal import Journal
from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.expected import read_expected
from alps.evals.evalplus.scoring import run_service, score, service_command, service_environment
from alps.runs.result import RunFailed

RIGHT = "def double(x):\n    return 2 * x\n"


def named(problem_set, programs):
    return {r["task_id"]: p for r, p in zip(problem_set.problems, programs, strict=True)}


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    for name in ("LIMITS", "LONGER_LIMITS"):
        limits = {"min_time_limit": 0.3, "gt_time_limit_factor": 4.0}
        monkeypatch.setattr(evalplus_scoring, name, limits)


@pytest.mark.sandbox
def test_the_service_learns_no_token_and_no_switch_of_evalplus(tmp_path, monkeypatch, problems):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("EVALPLUS_TIMEOUT_PER_TASK", "5")
    monkeypatch.setenv("EVALPLUS_MAX_MEMORY_BYTES", "1")
    assert "secret" not in str(service_environment(problems(1), tmp_path))
    found = score(problems(1), {"HumanEval/0": RIGHT}, tmp_path / "folder")
    assert found.passed(plus=True) == {"HumanEval/0": True}


@pytest.mark.sandbox
def test_expected_values_are_no_pickle_and_for_us_alone(tmp_path, monkeypatch, problems):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    score(problems(1), {"HumanEval/0": RIGHT}, tmp_path / "first")
    kept = tmp_path / "cache/evalplus"
    [made] = kept.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    found = read_expected(made)
    assert [part.lines for part in found.values()] == [[b"2", b"4"], [b"0", b"-6"]]
    before = made.stat().st_mtime_ns
    score(problems(1), {"HumanEval/0": RIGHT}, tmp_path / "second")
    assert made.stat().st_mtime_ns == before


@pytest.mark.sandbox
@pytest.mark.parametrize("body", ["    return missing\n", "    import os\n    os._exit(0)\n"])
def test_a_reference_that_fails_is_one_sentence(tmp_path, body, problems):
    broken = problems(1, canonical_solution=body)
    with pytest.raises(RunFailed, match="the reference solution of HumanEval/0 fails"):
        score(broken, {"HumanEval/0": RIGHT}, tmp_path)


@pytest.mark.sandbox
def test_an_interrupted_judge_goes_on_where_it_was(tmp_path, monkeypatch, problems):
    wanted = problems(3)
    slow = "import time\ndef double(x):\n    time.sleep(9)\n    return 2 * x"
    programs = named(wanted, [RIGHT, "def double(x):\n    return x", slow])
    journal = tmp_path / "judging/answers.0.jsonl"

    def interrupt():
        if journal.exists() and journal.read_text().count("\n") >= 3:
            raise KeyboardInterrupt

    whole = evalplus_scoring.run_service
    monkeypatch.setattr(evalplus_scoring, "POLL_SECONDS", 0.02)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evalplus_scoring, "run_service", lambda *given: whole(*given[:4], interrupt))
        score(wanted, programs, tmp_path)
    head, *lines = map(json.loads, journal.read_text().splitlines())
    known = {task: {**outcome, "seconds": 77.0} for task, outcome in lines}
    assert "HumanEval/2" not in known and len(known) == 2
    journal.write_text("".join(json.dumps(x) + "\n" for x in [head, *known.items()]))
    found = score(wanted, programs, tmp_path)
    assert {t: n["seconds"] == 77.0 for t, n in found.notes.items()} == {
        "HumanEval/0": True, "HumanEval/1": True, "HumanEval/2": False,
    }  # fmt: skip
    assert list(found.passed(plus=True).values()) == [True, False, False]
    assert not journal.parent.exists()


@pytest.mark.sandbox
def test_another_programs_journal_is_not_read(tmp_path, problems):
    old = Journal(tmp_path / "judging", "another")
    old.add("HumanEval/0", {"base": {"stock": "pass", "hardened": "pass", "tested": 2}})
    old.close()
    found = score(problems(1), {"HumanEval/0": "def double(x): return x"}, tmp_path)
    assert not found.passed(plus=False)["HumanEval/0"]


def test_the_service_ends_with_its_caller(tmp_path):
    """Who starts it and dies leaves nothing behind."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom alps.evals.evalplus.scoring import *\n"
        "run_service([sys.executable, '-c', 'from threading import Thread; import time; from "
        "alps.evals.evalplus.judge import _exit_with_caller; Thread(target=_exit_with_caller)"
        ".start(); print(7, flush=True); time.sleep(60)'], dict(os.environ), Path(sys.argv[1]), 60)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    said = tmp_path / "log.txt"
    deadline = time.monotonic() + 60
    while not (said.exists() and said.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    [service] = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.exists() and path.read_text().rsplit(")", 1)[1].split()[1] == str(caller.pid)
    ]
    caller.kill()
    caller.wait()
    while Path(f"/proc/{service}/fd").exists() and list_open(service):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def list_open(process):
    """What a process that lives has open; a dead one that nobody waited for has nothing."""
    try:
        return os.listdir(f"/proc/{process}/fd")
    except OSError:
        return []


@pytest.mark.parametrize(
    ("code", "message"),
    [("raise OSError('full')", "code 1: .*full"), ("import time; time.sleep(60)", "1 seconds")],
)
def test_a_service_that_fails_is_one_sentence(tmp_path, code, message):
    with pytest.raises(RunFailed, match=message):
        run_service([sys.executable, "-c", f"import os\n{code}"], {}, tmp_path, 1.0)


def test_without_a_sandbox_and_consent_nothing_runs(tmp_path, monkeypatch, problems):
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    right = {"HumanEval/0": RIGHT}
    with pytest.raises(RunFailed, match=r"bubblewrap is not installed\): install bubble"):
        score(problems(1), right, tmp_path / "a")
    found = score(problems(1), right, tmp_path / "b", allow_unsafe=True)
    assert found.passed(plus=True) == {"HumanEval/0": True} and found.sandbox == "none"


@pytest.mark.sandbox
def test_progress_is_told(tmp_path, monkeypatch, caplog, problems):
    monkeypatch.setattr("alps.base.progress.SECONDS_OF_SILENCE", 0.0)
    monkeypatch.setattr("alps.base.progress.SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(evalplus_scoring, "POLL_SECONDS", 0.02)
    caplog.set_level("INFO")
    wanted = problems(6)
    score(wanted, named(wanted, [RIGHT] * 6), tmp_path, progress="lines")
    assert any("of 6 programs" in message for message in caplog.messages)


def test_the_process_is_a_module_of_its_own_without_torch(tmp_path):
    assert service_command(tmp_path)[1:4] == ["-P", "-m", "alps.evals.evalplus.judge"]
    code = "import sys, alps.evals.evalplus.judge, evalplus.sanitize, evalplus.eval; "
    code += "from evalplus.data import get_mbpp_plus; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
