"""Scores generated programs: `score` is the only function that runs generated code.

The judging service (`judge`) is a fresh process, since this one may have a GPU, a model and tokens;
the programs run in sandboxes below it.
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
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alps.base.atomic import write_json, write_text
from alps.base.cache import cache_dir
from alps.base.hashing import digest
from alps.base.progress import ProgressMode, track_progress
from alps.evals.evalplus.problems import Dataset, Problem, ProblemSet
from alps.evals.evalplus.verdicts import Verdicts
from alps.runs.result import RunFailed

log = logging.getLogger(__name__)

LIMITS = {"min_time_limit": 1.0, "gt_time_limit_factor": 4.0}
"""EvalPlus' defaults: seconds for a test, and multiples of the reference solution's time."""

LONGER_LIMITS = {"min_time_limit": 4.0, "gt_time_limit_factor": 8.0}
JUDGE_VERSION = 2  # raised when verdicts change
SECONDS_PER_PROGRAM = 300.0  # upper limit: sanitizing, base and plus tests, both judged twice
STARTUP_SECONDS = 600.0
MAX_WORKERS = 32
POLL_SECONDS = 0.5
MAX_LOG_CHARACTERS = 400  # of a failed service's last line


def score(
    problem_set: ProblemSet,
    programs: Mapping[str, str],
    folder: Path,
    base_only: bool = False,
    *,
    allow_unsafe: bool = False,
    progress: ProgressMode = "off",
) -> Verdicts:
    """Runs the programs on the problems' tests, unless `folder` has the verdicts of this request.

    After an interruption, finished programs are not run again. `folder` receives `samples.jsonl`
    and `eval_results.json` as EvalPlus writes them (with its verdicts), `samples.raw.jsonl` with
    the programs before sanitizing, `verdicts.json` with our verdicts, and `problems.jsonl` unless
    the problems are a complete release. `evalplus.evaluate --samples` judges the samples again.

    Args:
        problem_set: With tests and reference solutions.
        programs: Task -> program in the model's answer.
        folder: Receives the files.
        base_only: Omit the tests that EvalPlus added.
        allow_unsafe: Run without protection if there is no sandbox.
        progress: How progress is shown.

    Raises:
        RunFailed: If the judging service fails.
    """
    dataset, problems = problem_set.dataset, problem_set.problems
    request = {
        "dataset": dataset,
        "hash": problem_set.md5,
        "programs": {p["task_id"]: programs[p["task_id"]] for p in problems},
        "expected": {p["task_id"]: _expected_id(p, dataset) for p in problems},
        "base_only": base_only,
        "limits": LIMITS,
        "longer_limits": LONGER_LIMITS,
        "evalplus": version("evalplus"),
        "judge": JUDGE_VERSION,
    }
    identity = digest(request)
    verdicts = _read(folder, identity)
    if verdicts is None:
        log.info("judging %d programs (%s)", len(problems), problem_set.label)
        own = {"identity": identity, "allow_unsafe": allow_unsafe, "workers": num_workers()}
        journal = folder.resolve() / "judging"
        title = f"judging {problem_set.label}"
        with track_progress(title, len(problems), progress, "programs") as report:
            verdicts = _judge(problem_set, {**request, **own}, journal, report)
        _write(folder, problem_set, request["programs"], verdicts, identity)
        shutil.rmtree(journal, ignore_errors=True)
    return verdicts


def num_workers() -> int:
    """Programs judged in parallel: half of the cores, as in EvalPlus."""
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count() or 1
    return min(max(1, cores // 2), MAX_WORKERS)


def _expected_id(problem: Problem, dataset: Dataset) -> str:
    """Cache key of a problem's expected results."""
    fields = ("prompt", "canonical_solution", "base_input", "plus_input")
    own = [problem[field] for field in fields]
    return digest([version("evalplus"), dataset, problem["task_id"], *own])[:32]


def _read(folder: Path, identity: str) -> Verdicts | None:
    """Verdicts of an earlier call with the same request."""
    try:
        verdicts = json.loads((folder / "verdicts.json").read_text())
        results = json.loads((folder / "eval_results.json").read_text())
    except (OSError, ValueError):
        return None
    same = verdicts.get("identity") == identity and verdicts.get("results") == digest(results)
    return Verdicts(results, verdicts["notes"], verdicts["sandbox"]) if same else None


def _write(
    folder: Path,
    problem_set: ProblemSet,
    programs: Mapping[str, str],
    verdicts: Verdicts,
    identity: str,
) -> None:
    solutions = {task: r["solution"] for task, [r] in verdicts.eval_results["eval"].items()}
    for name, texts in (("samples.raw.jsonl", programs), ("samples.jsonl", solutions)):
        samples = [{"task_id": task, "solution": text} for task, text in texts.items()]
        write_text(folder / name, "".join(json.dumps(sample) + "\n" for sample in samples))
    path = folder / "problems.jsonl"
    if problem_set.is_subset:
        write_text(path, problem_set.content.decode())
    else:
        path.unlink(missing_ok=True)
    write_text(folder / "eval_results.json", json.dumps(verdicts.eval_results) + "\n")
    results = digest(json.loads((folder / "eval_results.json").read_text()))
    own = {"identity": identity, "results": results, "sandbox": verdicts.sandbox}
    write_json(folder / "verdicts.json", {**own, "notes": verdicts.notes})


def _judge(
    problem_set: ProblemSet,
    request: Mapping[str, Any],
    journal: Path,
    report: Callable[[int], None],
) -> Verdicts:
    """Runs the judging service on a request."""
    cache = cache_dir().resolve() / "evalplus"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    # resolved: EvalPlus and the sandboxes change the working folder
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        (folder / problem_set.file_name).write_bytes(problem_set.content)
        request = {**request, "cache_dir": str(cache), "journal": str(journal)}
        (folder / "request.json").write_text(json.dumps(request))
        answers = journal / "answers.0.jsonl"
        run_service(
            service_command(folder),
            service_environment(problem_set, folder),
            folder,
            STARTUP_SECONDS + SECONDS_PER_PROGRAM * len(problem_set.problems),
            lambda: report(_num_lines(answers) - 1),
        )
        try:
            response = json.loads((folder / "verdicts.json").read_text())
        except (OSError, ValueError) as error:
            raise RunFailed(f"EvalPlus' judging process left no verdicts ({error})") from None
    assert not response["torch"], "the judging process must not import torch"
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    results = {"date": date, "hash": request["hash"], "eval": response["eval"]}
    return Verdicts(results, response["notes"], response["sandbox"])


def _num_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 1


def service_command(folder: Path) -> list[str]:
    """Command line of the service for the request in `folder`."""
    return [sys.executable, "-P", "-m", "alps.evals.evalplus.judge", str(folder)]


def service_environment(problem_set: ProblemSet, folder: Path) -> dict[str, str]:
    """Complete environment of the service: no token, and none of EvalPlus' own switches."""
    override = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if os.path.isabs(p)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALPS_CACHE_DIR": str(cache_dir().resolve()),
        "XDG_CACHE_HOME": str(folder),  # EvalPlus creates a folder there when imported
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",  # EvalPlus imports `datasets`, which needs nothing from the hub
        override[problem_set.dataset]: str(folder / problem_set.file_name),
    }


def run_service(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Runs a process to its end, and then kills all processes left in its group.

    Args:
        command: Command line.
        environment: Complete environment.
        folder: Working folder; receives the output as `log.txt`.
        seconds: Time limit.
        on_poll: Called at regular intervals.

    Raises:
        RunFailed: If the process fails or exceeds the time limit.
    """
    log_path = folder / "log.txt"
    deadline = time.monotonic() + seconds
    with (
        log_path.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,  # closes if this process dies, which ends the service
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            while (code := _poll(process)) is None:
                on_poll()
                if time.monotonic() > deadline:
                    raise RunFailed(f"EvalPlus' judging did not end in {seconds:.0f} seconds")
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        lines = log_path.read_text(errors="replace").splitlines()
        last = "".join(lines[-1:])[:MAX_LOG_CHARACTERS]
        raise RunFailed(f"EvalPlus' judging process ended with code {code}: {last}")


def _poll(process: subprocess.Popen) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(POLL_SECONDS)
    return None
