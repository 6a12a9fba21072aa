"""Has programs judged by a service: `score` is the only way to have generated code run.

The service (`evalplus_judge`) is a fresh process, since this one may hold a GPU, a model and
tokens; the programs themselves run in sandboxes below it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alps.base.atomic import write_json, write_text
from alps.base.cache import cache_dir
from alps.base.hashing import digest
from alps.base.progress import ProgressMode, track_progress
from alps.evals.evalplus.problems import Dataset, Problems, Row
from alps.runs.result import RunFailed

log = logging.getLogger(__name__)

LIMITS = {"min_time_limit": 1.0, "gt_time_limit_factor": 4.0}
"""EvalPlus' own: seconds for a test, and times what the reference solution took."""

LONGER_LIMITS = {"min_time_limit": 4.0, "gt_time_limit_factor": 8.0}
JUDGE = 2  # raised when it judges otherwise
MOST_SECONDS_OF_A_PROGRAM = 300.0  # sanitized, and base and plus tests judged twice
STARTING_SECONDS = 600.0
MOST_WORKERS = 32
TICK_SECONDS = 0.5
KEPT_LOG = 400  # characters of a failed process' last words


@dataclass(frozen=True)
class Judged:
    """Verdicts on one program a problem.

    Attributes:
        eval_results: In EvalPlus' format.
        notes: Task -> hardened verdicts, seconds, reason, and whether it was judged again or could
            not be sanitized.
        sandbox: Where the programs ran.
    """

    eval_results: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]]
    sandbox: str

    def passed(self, plus: bool) -> dict[str, bool]:
        """Task -> whether it passes the base tests, or those and the added ones too."""
        parts = ("base", "plus") if plus else ("base",)
        notes = self.notes.items()
        return {task: all(n["hardened"][part] == "pass" for part in parts) for task, n in notes}

    def passed_in_evalplus(self, plus: bool) -> dict[str, bool]:
        """The same by EvalPlus' own verdicts, errors of its among them."""
        columns = ("base_status", "plus_status") if plus else ("base_status",)
        entries = self.eval_results["eval"].items()
        return {task: all(found[0][c] == "pass" for c in columns) for task, found in entries}


def score(
    problems: Problems,
    programs: Mapping[str, str],
    folder: Path,
    base_only: bool = False,
    *,
    allow_unsafe: bool = False,
    progress: ProgressMode = "off",
) -> Judged:
    """Runs the programs on the problems' tests, unless just these have been judged already.

    A program that was judged when the service was killed is not run again. In `folder` stand
    afterwards `samples.jsonl` and `eval_results.json` as EvalPlus writes them (with its verdicts),
    `samples.raw.jsonl` with the programs before they were sanitized, `verdicts.json` with what was
    judged how, and `problems.jsonl` if they are not a whole release. `evalplus.evaluate --samples`
    judges the samples anew.

    Args:
        problems: With tests and reference solutions.
        programs: Task -> what the model made of it.
        folder: Receives the files.
        base_only: Leave out the tests that EvalPlus added.
        allow_unsafe: Run them without protection where there is no sandbox.
        progress: How it is shown.

    Raises:
        RunFailed: If the judging process itself failed.
    """
    request = {
        "dataset": problems.dataset,
        "hash": problems.md5,
        "programs": {row["task_id"]: programs[row["task_id"]] for row in problems.rows},
        "expected": {row["task_id"]: _fingerprint(row, problems.dataset) for row in problems.rows},
        "base_only": base_only,
        "limits": LIMITS,
        "longer_limits": LONGER_LIMITS,
        "evalplus": version("evalplus"),
        "judge": JUDGE,
    }
    identity = digest(request)
    judged = _remembered(folder, identity)
    if judged is None:
        log.info("judging %d programs (%s)", len(problems.rows), problems.label)
        own = {"identity": identity, "allow_unsafe": allow_unsafe, "workers": workers()}
        journal = folder.resolve() / "judging"
        with track_progress(
            f"judging {problems.label}", len(problems.rows), progress, "programs"
        ) as report:
            judged = _by_service(problems, {**request, **own}, journal, report)
        _write(folder, problems, request["programs"], judged, identity)
        shutil.rmtree(journal, ignore_errors=True)
    return judged


def workers() -> int:
    """Programs judged side by side: half of the cores, as EvalPlus does it."""
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count() or 1
    return min(max(1, cores // 2), MOST_WORKERS)


def _fingerprint(row: Row, dataset: Dataset) -> str:
    """Names what the reference solution of a problem returns."""
    own = [row["prompt"], row["canonical_solution"], row["base_input"], row["plus_input"]]
    return digest([version("evalplus"), dataset, row["task_id"], *own])[:32]


def _remembered(folder: Path, identity: str) -> Judged | None:
    try:
        verdicts = json.loads((folder / "verdicts.json").read_text())
        results = json.loads((folder / "eval_results.json").read_text())
    except (OSError, ValueError):
        return None
    same = verdicts.get("identity") == identity and verdicts.get("results") == digest(results)
    return Judged(results, verdicts["notes"], verdicts["sandbox"]) if same else None


def _write(
    folder: Path, problems: Problems, programs: Mapping[str, str], judged: Judged, identity: str
) -> None:
    solutions = {t: found[0]["solution"] for t, found in judged.eval_results["eval"].items()}
    for name, texts in (("samples.raw.jsonl", programs), ("samples.jsonl", solutions)):
        rows = [{"task_id": task, "solution": text} for task, text in texts.items()]
        write_text(folder / name, "".join(json.dumps(row) + "\n" for row in rows))
    own = folder / "problems.jsonl"
    if problems.is_subset:
        write_text(own, problems.content.decode())
    else:
        own.unlink(missing_ok=True)
    write_text(folder / "eval_results.json", json.dumps(judged.eval_results) + "\n")
    results = digest(json.loads((folder / "eval_results.json").read_text()))
    own = {"identity": identity, "results": results, "sandbox": judged.sandbox}
    write_json(folder / "verdicts.json", {**own, "notes": judged.notes})


def _by_service(
    problems: Problems, request: Mapping[str, Any], journal: Path, report: Callable[[int], None]
) -> Judged:
    kept = cache_dir().resolve() / "evalplus"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    # resolved: EvalPlus and the sandboxes change into folders of their own
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        (folder / problems.file_name).write_bytes(problems.content)
        whole = {**request, "kept": str(kept), "journal": str(journal)}
        (folder / "request.json").write_text(json.dumps(whole))
        seconds = STARTING_SECONDS + MOST_SECONDS_OF_A_PROGRAM * len(problems.rows)
        lines = journal / "answers.0.jsonl"
        run_service(
            command(folder),
            environment(problems, folder),
            folder,
            seconds,
            lambda: report(_num_lines(lines) - 1),
        )
        try:
            found = json.loads((folder / "verdicts.json").read_text())
        except (OSError, ValueError) as error:
            raise RunFailed(f"EvalPlus' judging process left no verdicts ({error})") from None
    assert not found["torch"], "the judging process must not import torch"
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    results = {"date": date, "hash": request["hash"], "eval": found["eval"]}
    return Judged(results, found["notes"], found["sandbox"])


def _num_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 1


def command(folder: Path) -> list[str]:
    """The service, for the request in `folder`."""
    return [sys.executable, "-P", "-m", "alps.evals.evalplus.judge", str(folder)]


def environment(problems: Problems, folder: Path) -> dict[str, str]:
    """All that the service learns of this process: no token, and none of EvalPlus' own switches."""
    override = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if os.path.isabs(p)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALPS_CACHE_DIR": str(cache_dir().resolve()),
        "XDG_CACHE_HOME": str(folder),  # EvalPlus makes a folder there when it is imported
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",  # EvalPlus imports `datasets`, which needs nothing from there
        override[problems.dataset]: str(folder / problems.file_name),
    }


def run_service(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Runs a process to its end, with all processes that it leaves in its group.

    Args:
        command: What to run.
        environment: All of its environment.
        folder: Where it works, and keeps what it says.
        seconds: After so many it is killed.
        tick: Called now and then.

    Raises:
        RunFailed: If it fails or takes too long.
    """
    said = folder / "log.txt"
    deadline = time.monotonic() + seconds
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,  # its end tells the service that we are gone
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            while (code := _code(process)) is None:
                tick()
                if time.monotonic() > deadline:
                    raise RunFailed(f"EvalPlus' judging did not end in {seconds:.0f} seconds")
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        last = "".join(said.read_text(errors="replace").splitlines()[-1:])[:KEPT_LOG]
        raise RunFailed(f"EvalPlus' judging process ended with code {code}: {last}")


def _code(process: subprocess.Popen) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(TICK_SECONDS)
    return None
