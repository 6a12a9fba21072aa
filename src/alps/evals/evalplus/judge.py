"""The judging service: a process of its own that never imports torch.

    python -P -m alps.evals.evalplus.judge FOLDER

FOLDER contains `request.json` and the problems, and receives `verdicts.json`. No program runs in
this process: each has its own sandbox, and its results are compared here by EvalPlus' rules.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from alps.base.cache import cache_lock
from alps.evals.engine.journal import Journal
from alps.evals.evalplus.expected import compute_expected, read_expected
from alps.evals.evalplus.problems import Problem
from alps.evals.evalplus.rules import FAIL, PASS, SUITES, TIMEOUT, Comparison, Rules
from alps.evals.evalplus.verdicts import verdict_records
from alps.evals.sandbox.availability import open_sandbox
from alps.evals.sandbox.process import CallBatch, LimitExceeded, Request, Sandbox

SANITIZE_SECONDS = 30.0  # EvalPlus tries every pair of lines, which can take minutes
SUITE_SECONDS = 60.0  # EvalPlus' limit for all tests of a suite
EXTRA_SECONDS = 2.0  # as in EvalPlus
MIN_BYTES_PER_SECOND = 10e6  # of output
MAX_EXTRA_BYTES = 16 << 20  # of output, beyond twice the expected size


@dataclass(frozen=True)
class WorkerContext:
    """Shared input of all tasks of a worker process.

    Attributes:
        request: As for `judge`.
        problems: Task -> problem.
        sandbox: Runs the programs.
    """

    request: Mapping[str, Any]
    problems: Mapping[str, Problem]
    sandbox: Sandbox

    def expected_path(self, task: str) -> Path:
        """Cache file with the expected results of a problem."""
        return Path(self.request["cache_dir"], f"{self.request['expected'][task]}.z")


_contexts: list[WorkerContext] = []  # set once in each worker process


def main(folder: Path) -> None:
    """Reads `request.json`, writes `verdicts.json`."""
    Thread(target=_exit_with_caller, daemon=True).start()
    request = json.loads((folder / "request.json").read_text())
    try:
        with open_sandbox(request["allow_unsafe"]) as sandbox:
            verdicts = judge(request, sandbox)
    except ValueError as error:
        sys.exit(str(error))
    (folder / "verdicts.json").write_text(json.dumps(verdicts))


def _exit_with_caller() -> None:
    """Kills this service when the process at the other end of its input is gone."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():  # the group contains the workers; sandboxes die with them
        os.killpg(0, signal.SIGKILL)


def judge(request: Mapping[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    """Sanitizes and judges one program per problem.

    A program that may have failed for lack of time is judged again, alone and with longer limits.

    Args:
        request: `dataset`, `programs` (task -> text), `cache_dir` and `expected` (folder, and task
            -> file name there of the expected results), `base_only`, `workers`, `limits` and
            `longer_limits` (EvalPlus' `min_time_limit` and `gt_time_limit_factor`), `journal` and
            `identity` (folder with the outcomes of finished programs, and hash of the request).
        sandbox: Runs the programs.

    Returns:
        EvalPlus' results under `eval`, and under `notes` what they lack: task -> seconds, reason,
        hardened verdicts, and whether it was judged again and whether it was sanitized.

    Raises:
        ValueError: If a reference solution fails.
    """
    problems = load_problems(request["dataset"])
    assert set(problems) == set(request["programs"]), "one program for each problem"
    context = WorkerContext(request, problems, sandbox)
    _compute_missing_expected(context)
    sanitized = dict(_in_parallel(_sanitize, context, problems, request["workers"]))
    sanitized = {task: text for task, text in sanitized.items() if text is not None}
    solutions = {task: sanitized.get(task, request["programs"][task]) for task in problems}
    outcomes = _outcomes(WorkerContext({**request, "solutions": solutions}, problems, sandbox))
    records = {
        task: verdict_records(problem, solutions[task], outcomes[task], request)
        for task, problem in problems.items()
    }
    return {
        "eval": {task: [result] for task, (result, _) in records.items()},
        "notes": {
            task: {**note, "sanitized": task in sanitized} for task, (_, note) in records.items()
        },
        "sandbox": sandbox.backend.name,
        "torch": "torch" in sys.modules,
    }


def load_problems(dataset: str) -> Mapping[str, Problem]:
    """The problems in the file that EvalPlus' environment variable names."""
    from evalplus.data import get_human_eval_plus, get_mbpp_plus

    return get_mbpp_plus() if dataset == "mbpp" else get_human_eval_plus()


def _compute_missing_expected(context: WorkerContext) -> None:
    """Fills the cache of expected results, under a lock: another service may need the same."""
    with cache_lock("evalplus-expected"):
        todo = [task for task in context.problems if not context.expected_path(task).exists()]
        errors = dict(_in_parallel(_expect, context, todo, context.request["workers"]))
    if error := next(filter(None, errors.values()), None):
        raise ValueError(error)
    if lost := [task for task in todo if task not in errors]:
        raise ValueError(f"the reference solution of {lost[0]} ended the judging process")


def _outcomes(context: WorkerContext) -> dict[str, Any]:
    """Outcome of each program, from the journal where it has one."""
    request, problems = context.request, context.problems
    journal = Journal(Path(request["journal"]), request["identity"])
    todo = [task for task in problems if task not in journal]
    for task, outcome in _in_parallel(_judge_task, context, todo, request["workers"]):
        if not _may_lack_time(outcome, request):
            journal.add(task, outcome)
    retry = WorkerContext(
        {**request, "limits": request["longer_limits"]}, problems, context.sandbox
    )
    for task in [t for t in todo if t not in journal]:
        outcomes = dict(_in_parallel(_judge_task, retry, [task], 1))
        journal.add(task, {**outcomes.get(task, failed_outcome(request)), "again": True})
    journal.close()
    return {task: journal[task] for task in problems}


def _in_parallel(
    function: Callable[[str], Any], context: WorkerContext, tasks: Iterable[str], workers: int
) -> Iterator[tuple[str, Any]]:
    """Tasks and results of `function`, as completed; tasks of a killed worker are left out."""
    with ProcessPoolExecutor(workers, initializer=_contexts.append, initargs=(context,)) as pool:
        futures = {}
        with suppress(BrokenProcessPool):
            for task in tasks:
                futures[pool.submit(function, task)] = task
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                yield futures[future], future.result()


def _expect(task: str) -> str | None:
    """Computes the expected results of a task; returns the error, if any."""
    context = _contexts[-1]
    dataset, path = context.request["dataset"], context.expected_path(task)
    try:
        return compute_expected(context.sandbox, dataset, context.problems[task], path)
    except ValueError as error:
        return str(error)


def _sanitize(task: str) -> str | None:
    """The program as sanitized by EvalPlus, or None if that fails or takes too long."""
    from evalplus.eval.utils import TimeoutException, time_limit
    from evalplus.sanitize import sanitize

    context = _contexts[-1]
    entry_point = context.problems[task]["entry_point"]
    try:
        with time_limit(SANITIZE_SECONDS):
            return sanitize(context.request["programs"][task], entry_point)
    except (TimeoutException, ValueError, RecursionError):
        return None


def _judge_task(task: str) -> dict[str, Any]:
    """Runs a program in a sandbox and compares its results."""
    context = _contexts[-1]
    request, problem = context.request, context.problems[task]
    expected = read_expected(context.expected_path(task))
    rules = Rules.of(request["dataset"], problem)
    comparisons, batches, size = {}, [], 0
    for name in _suites(request):
        inputs = problem[f"{name}_input"]
        comparisons[name] = Comparison(rules, inputs, expected[name].lines)
        num_bytes = sum(map(len, expected[name].lines))
        batches.append(_batch(name, inputs, expected[name].seconds, num_bytes, request["limits"]))
        size += num_bytes
    run = Request(
        code=request["solutions"][task],
        entry_point=problem["entry_point"],
        batches=batches,
        view=rules.view(),
    )
    began = time.perf_counter()
    ends, killed = _compare(context.sandbox, run, comparisons, MAX_EXTRA_BYTES + 2 * size)
    outcome: dict[str, Any] = {
        name: comparison.verdicts(ends.get(name, "died"))
        for name, comparison in comparisons.items()
    }
    if killed == "too much":
        for verdict in outcome.values():
            verdict.update({k: FAIL for k in ("stock", "hardened") if verdict[k] == TIMEOUT})
    slow = killed == "too slow" or "too slow" in ends.values()
    slow = slow or any(comparison.slow for comparison in comparisons.values())
    seconds = round(time.perf_counter() - began, 3)
    return {**outcome, "slow": slow, "too_much": killed == "too much", "seconds": seconds}


def _suites(request: Mapping[str, Any]) -> tuple[str, ...]:
    return SUITES[:1] if request["base_only"] else SUITES


def _batch(
    name: str, inputs: list, seconds: Iterable[float], num_bytes: int, limits: Mapping[str, float]
) -> CallBatch:
    """A suite under EvalPlus' time limits, with time added for the transfer of its results."""
    minimum, factor = limits["min_time_limit"], limits["gt_time_limit_factor"]
    timeouts = [max(minimum, factor * s) for s in seconds]
    total = min(SUITE_SECONDS, sum(timeouts)) + EXTRA_SECONDS + num_bytes / MIN_BYTES_PER_SECOND
    return CallBatch(name=name, inputs=inputs, call_timeouts=timeouts, timeout=total)


def _compare(
    sandbox: Sandbox, run: Request, comparisons: Mapping[str, Comparison], max_bytes: int
) -> tuple[dict[str, str], str]:
    """Compares line by line, and stops a suite at its first wrong line.

    Returns:
        Suite -> how it ended, and why the whole program was killed, if it was.
    """
    names = list(comparisons)
    ends: dict[str, str] = {}
    stopped = False
    try:
        with sandbox.start(run, max_bytes) as process:
            for line in process.lines():
                name = names[len(ends)]
                if line.startswith(b". "):
                    ends[name] = _batch_end(line)
                    stopped = False
                elif not stopped and not comparisons[name].add(line):
                    process.stop(name)
                    stopped = True
    except LimitExceeded as error:
        return ends, error.reason
    return ends, ""


def _batch_end(line: bytes) -> str:
    """How a batch ended; "died" if the line is invalid."""
    with suppress(ValueError, IndexError, TypeError, KeyError, RecursionError):
        end = json.loads(line[2:])[1]
        return end if end in ("done", "too slow", "stopped") else "died"
    return "died"


def _may_lack_time(outcome: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a time limit may be the cause: a program may catch the timeout exception."""
    statuses = {outcome[name]["hardened"] for name in SUITES if name in outcome} - {PASS}
    slow = outcome["slow"] or outcome["seconds"] >= request["limits"]["min_time_limit"]
    return not outcome["too_much"] and (TIMEOUT in statuses or bool(statuses and slow))


def failed_outcome(request: Mapping[str, Any]) -> dict[str, Any]:
    """Outcome of a program that could not be judged."""
    failed = {"stock": FAIL, "hardened": FAIL, "tested": 0}
    suites = dict.fromkeys(_suites(request), failed)
    return {**suites, "slow": False, "too_much": False, "seconds": 0.0}


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]))
