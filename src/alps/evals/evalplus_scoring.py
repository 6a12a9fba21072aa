"""Has programs judged by a fresh process: `score` is the only place where generated code runs."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alps.evals.evalplus_problems import Dataset, Problems, Row
from alps.identity import cache_dir, cache_lock, digest
from alps.results import RunFailed, write_json, write_text

log = logging.getLogger(__name__)

LIMITS = {"min_time_limit": 1.0, "gt_time_limit_factor": 4.0}
"""EvalPlus' own: seconds for a test, and times what the reference solution took."""

LONGER_LIMITS = {"min_time_limit": 4.0, "gt_time_limit_factor": 8.0}
MOST_SECONDS_OF_A_PROGRAM = 300.0  # sanitized, and base and plus tests judged twice
STARTING_SECONDS = 600.0
MOST_WORKERS = 32
KEPT_LOG = 400  # characters of a failed process' last words


@dataclass(frozen=True)
class Judged:
    """Verdicts on one program a problem.

    Attributes:
        eval_results: In EvalPlus' format.
        notes: Task -> seconds, reason, and whether it was judged again or could not be sanitized.
    """

    eval_results: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]]

    def passed(self, plus: bool) -> dict[str, bool]:
        """Task -> whether it passes the base tests, or those and the added ones too."""
        columns = ("base_status", "plus_status") if plus else ("base_status",)
        entries = self.eval_results["eval"].items()
        return {task: all(found[0][c] == "pass" for c in columns) for task, found in entries}


def score(
    problems: Problems, programs: Mapping[str, str], folder: Path, base_only: bool = False
) -> Judged:
    """Runs the programs on the problems' tests, unless just these have been judged already.

    In `folder` stand afterwards `samples.jsonl` and `eval_results.json` as EvalPlus writes them,
    `samples.raw.jsonl` with the programs before they were sanitized, `verdicts.json` with what was
    judged how, and `problems.jsonl` if they are not a whole release. `evalplus.evaluate --samples`
    judges the samples anew.

    Args:
        problems: With tests and reference solutions.
        programs: Task -> what the model made of it.
        folder: Receives the files.
        base_only: Leave out the tests that EvalPlus added.

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
    }
    identity = digest(request)
    judged = _remembered(folder, identity)
    if judged is None:
        log.info("judging %d programs (%s)", len(problems.rows), problems.label)
        found = _in_fresh_processes(problems, {**request, "workers": workers()})
        judged = Judged(found["eval_results"], found["notes"])
        _write(folder, problems, request["programs"], judged, identity)
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
    return Judged(results, verdicts["notes"]) if same else None


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
    verdicts = {"identity": identity, "results": results, "notes": judged.notes}
    write_json(folder / "verdicts.json", verdicts)


def _in_fresh_processes(problems: Problems, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """First what the reference solutions return, then the verdicts."""
    kept = cache_dir() / "evalplus"
    kept.mkdir(parents=True, exist_ok=True)
    # resolved: EvalPlus changes into folders of its own while it runs a program
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        (folder / problems.file_name).write_bytes(problems.content)
        (folder / "request.json").write_text(json.dumps(request))
        seconds = STARTING_SECONDS + MOST_SECONDS_OF_A_PROGRAM * len(problems.rows)
        own = environment(problems, folder)
        with cache_lock("evalplus-expected"):
            if not all((kept / f"{name}.pkl").exists() for name in request["expected"].values()):
                run_trusted(command("expected", folder), own, folder, seconds)
        run_untrusted(command("judge", folder), own, folder, seconds)
        try:
            found = json.loads((folder / "verdicts.json").read_text())
            assert not found["torch"], "the judging process must not import torch"
        except (OSError, ValueError) as error:
            raise RunFailed(f"EvalPlus' judging process left no verdicts ({error})") from None
    return found


def command(mode: str, folder: Path) -> list[str]:
    """The process that judges (`judge`) or runs the reference solutions (`expected`).

    It reads what Python itself needs, `cache_dir()/evalplus` and `folder`; to judge, it writes
    below `folder` only.
    """
    return [sys.executable, "-P", "-m", "alps.evals.evalplus_judge", mode, str(folder)]


def environment(problems: Problems, folder: Path) -> dict[str, str]:
    """All that process learns of this one's: no token, and none of EvalPlus' own switches."""
    override = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if os.path.isabs(p)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache_dir().resolve()),  # EvalPlus adds its own name
        "OMP_NUM_THREADS": "1",  # each thread would reserve address space
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",  # EvalPlus imports `datasets`, which needs nothing from there
        override[problems.dataset]: str(folder / problems.file_name),
    }


def run_untrusted(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, seconds: float
) -> None:
    """Runs a process that executes generated code, WITHOUT protection: EvalPlus is no sandbox.

    What it runs has every right of the user who calls this. Callers must have consent.

    Args:
        command: From `command`.
        environment: All of its environment.
        folder: Where it works.
        seconds: After so many it is killed.

    Raises:
        RunFailed: If it fails or takes too long.
    """
    run_trusted(command, environment, folder, seconds)


def run_trusted(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, seconds: float
) -> None:
    """Runs a process to its end, with all processes that it leaves in its group.

    Args:
        command: What to run.
        environment: All of its environment.
        folder: Where it works, and keeps what it says.
        seconds: After so many it is killed.

    Raises:
        RunFailed: If it fails or takes too long.
    """
    said = folder / "log.txt"
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"EvalPlus' judging did not end in {seconds:.0f} seconds") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        last = "".join(said.read_text(errors="replace").splitlines()[-1:])[:KEPT_LOG]
        raise RunFailed(f"EvalPlus' judging process ended with code {code}: {last}")
