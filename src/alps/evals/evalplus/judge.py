"""The service that judges generated programs: a process of its own that never imports torch.

    python -P -m alps.evals.evalplus.judge FOLDER

FOLDER holds `request.json` and the problems, and receives `verdicts.json`. No program runs in this
process: each has a sandbox of its own, and what it returned is compared here, by EvalPlus' rules.
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
from alps.evals.evalplus.expected import expect, read_expected, rules_of
from alps.evals.evalplus.rules import FAIL, PASS, TIMEOUT, Comparison
from alps.evals.evalplus.verdicts import Problem, describe
from alps.evals.sandbox.sandbox import Part, Request, Sandbox, TooMuch, TooSlow, sandbox

SANITIZE_SECONDS = 30.0  # EvalPlus tries every pair of lines, which can take minutes
TASK_SECONDS = 60.0  # EvalPlus' limit for all tests of a part
SPARE_SECONDS = 2.0  # as in EvalPlus
SLOWEST_TRANSFER = 10e6  # bytes a second, for values on their way out
MOST_BYTES = 16 << 20  # beyond twice what the reference returns


@dataclass(frozen=True)
class Work:
    """What a worker needs to know.

    Attributes:
        request: As `judge` has it.
        problems: Task -> problem.
        box: Where programs run.
    """

    request: Mapping[str, Any]
    problems: Mapping[str, Problem]
    box: Sandbox

    def expected_path(self, task: str) -> Path:
        """Where the expected values of a problem are."""
        return Path(self.request["kept"], f"{self.request['expected'][task]}.z")


_work: list[Work] = []  # of a worker process


def main(folder: Path) -> None:
    """Reads `request.json`, writes `verdicts.json`."""
    Thread(target=_end_with_caller, daemon=True).start()
    request = json.loads((folder / "request.json").read_text())
    try:
        with sandbox(request["allow_unsafe"]) as box:
            found = judge(request, box)
    except ValueError as error:
        sys.exit(str(error))
    (folder / "verdicts.json").write_text(json.dumps(found))


def _end_with_caller() -> None:
    """Ends this service when who holds the other end of its input is gone."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():  # workers are in it, and sandboxes die with them
        os.killpg(0, signal.SIGKILL)


def judge(request: Mapping[str, Any], box: Sandbox) -> dict[str, Any]:
    """Sanitizes and judges one program a problem.

    A program that may have failed for lack of time is judged again, alone and with longer limits.

    Args:
        request: `dataset`, `programs` (task -> text), `kept` and `expected` (folder, and task ->
            name of the file there with what the reference returns), `base_only`, `workers`,
            `limits` and `longer_limits` (`min_time_limit` and `gt_time_limit_factor` of EvalPlus),
            `journal` and `identity` (where finished programs are remembered, and of what).
        box: Where programs run.

    Returns:
        EvalPlus' results under `eval_results`, and under `notes` what it doesn't tell: task ->
        seconds, reason, hardened verdicts, and whether it was judged again or left as the model
        wrote it.

    Raises:
        ValueError: If a reference solution fails.
    """
    problems = load(request["dataset"])
    assert set(problems) == set(request["programs"]), "one program for each problem"
    work = Work(request, problems, box)
    _expect_all(work)
    found = dict(_side_by_side(_sanitized, work, problems, request["workers"]))
    found = {task: text for task, text in found.items() if text is not None}
    solutions = {task: found.get(task, request["programs"][task]) for task in problems}
    work = Work({**request, "solutions": solutions}, problems, box)
    outcomes = _outcomes(work)
    described = {
        task: describe(problem, solutions[task], outcomes[task], request)
        for task, problem in problems.items()
    }
    return {
        "eval": {task: [result] for task, (result, _) in described.items()},
        "notes": {
            task: {**note, "sanitized": task in found} for task, (_, note) in described.items()
        },
        "sandbox": box.backend.name,
        "torch": "torch" in sys.modules,
    }


def load(dataset: str) -> dict[str, Problem]:
    """The problems, from the file that EvalPlus' variable in the environment names."""
    from evalplus.data import get_human_eval_plus, get_mbpp_plus

    return get_mbpp_plus() if dataset == "mbpp" else get_human_eval_plus()


def _expect_all(work: Work) -> None:
    """Computes what is not in the cache, under a lock: another service may want the same."""
    with cache_lock("evalplus-expected"):
        wanted = [task for task in work.problems if not work.expected_path(task).exists()]
        for task, error in _side_by_side(_expected, work, wanted, work.request["workers"]):
            if error:
                raise ValueError(error)
            wanted.remove(task)
        if wanted:
            raise ValueError(f"the reference solution of {wanted[0]} ended the judging process")


def _outcomes(work: Work) -> dict[str, Any]:
    """Outcome of each program, from the journal if it stands there."""
    request = work.request
    journal = Journal(Path(request["journal"]), request["identity"])
    todo = [task for task in work.problems if task not in journal]
    for task, outcome in _side_by_side(_outcome, work, todo, request["workers"]):
        if not _may_lack_time(outcome, request):
            journal.add(task, outcome)
    lonely = Work({**request, "limits": request["longer_limits"]}, work.problems, work.box)
    for task in [t for t in todo if t not in journal]:
        found = dict(_side_by_side(_outcome, lonely, [task], 1))
        journal.add(task, {**found.get(task, gave_up(request)), "again": True})
    journal.close()
    return {task: journal[task] for task in work.problems}


def _side_by_side(
    act: Callable[[str], Any], work: Work, tasks: Iterable[str], workers: int
) -> Iterator[tuple[str, Any]]:
    """Tasks with what `act` gives, as they come; one whose worker was killed is left out."""
    with ProcessPoolExecutor(workers, initializer=_work.append, initargs=(work,)) as pool:
        futures = {}
        with suppress(BrokenProcessPool):
            for task in tasks:
                futures[pool.submit(act, task)] = task
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                yield futures[future], future.result()


def _expected(task: str) -> str | None:
    """Keeps what the reference gives; says why it can't."""
    work = _work[-1]
    try:
        path = work.expected_path(task)
        return expect(work.box, work.request["dataset"], work.problems[task], path)
    except ValueError as error:
        return str(error)


def _sanitized(task: str) -> str | None:
    """EvalPlus' reading of an answer, or None if it breaks on it or takes too long."""
    from evalplus.eval.utils import TimeoutException, time_limit
    from evalplus.sanitize import sanitize

    work = _work[-1]
    try:
        with time_limit(SANITIZE_SECONDS):
            return sanitize(work.request["programs"][task], work.problems[task]["entry_point"])
    except (TimeoutException, ValueError, RecursionError):
        return None


def _outcome(task: str) -> dict[str, Any]:
    """Runs a program in a sandbox and compares what comes out."""
    work = _work[-1]
    request, problem = work.request, work.problems[task]
    expected = read_expected(work.expected_path(task))
    rules = rules_of(request["dataset"], problem)
    comparisons, parts, size = {}, [], 0
    for name in ("base",) if request["base_only"] else ("base", "plus"):
        inputs = problem[f"{name}_input"]
        comparisons[name] = Comparison(rules, inputs, expected[name].lines)
        bytes_out = sum(map(len, expected[name].lines))
        parts.append(_part(name, inputs, expected[name].seconds, bytes_out, request["limits"]))
        size += bytes_out
    run = Request(
        code=request["solutions"][task],
        entry_point=problem["entry_point"],
        parts=parts,
        view=rules.view(),
    )
    began = time.perf_counter()
    ended, stopped = _converse(work.box, run, comparisons, MOST_BYTES + 2 * size)
    outcome: dict[str, Any] = {
        name: comparison.verdicts(ended.get(name, "died"))
        for name, comparison in comparisons.items()
    }
    if stopped == "too much":
        for verdict in outcome.values():
            verdict.update({k: FAIL for k in ("stock", "hardened") if verdict[k] == TIMEOUT})
    slow = stopped == "too slow" or "too slow" in ended.values()
    slow = slow or any(comparison.slow for comparison in comparisons.values())
    seconds = round(time.perf_counter() - began, 3)
    return {**outcome, "slow": slow, "too_much": stopped == "too much", "seconds": seconds}


def _part(
    name: str, inputs: list, seconds: Iterable[float], bytes_out: int, limits: Mapping[str, float]
) -> Part:
    """A part of the tests under EvalPlus' limits, and time for what it returns to come out."""
    least, factor = limits["min_time_limit"], limits["gt_time_limit_factor"]
    of_calls = [max(least, factor * s) for s in seconds]
    whole = min(TASK_SECONDS, sum(of_calls)) + SPARE_SECONDS + bytes_out / SLOWEST_TRANSFER
    return Part(name=name, inputs=inputs, limits=of_calls, seconds=whole)


def _converse(
    box: Sandbox, run: Request, comparisons: Mapping[str, Comparison], most_bytes: int
) -> tuple[dict[str, str], str]:
    """Compares line by line, and stops a part at the first line that is wrong.

    Returns:
        Part -> how it ended, and why the whole program was killed, if it was.
    """
    names = list(comparisons)
    ended: dict[str, str] = {}
    told = False
    try:
        with box.started(run, most_bytes) as conversation:
            for line in conversation.lines():
                name = names[len(ended)]
                if line.startswith(b". "):
                    ended[name] = _word(line)
                    told = False
                elif not told and not comparisons[name].take(line):
                    conversation.stop(name)
                    told = True
    except TooSlow:
        return ended, "too slow"
    except TooMuch:
        return ended, "too much"
    return ended, ""


def _word(line: bytes) -> str:
    """How a part ended; "died" if the line makes no sense."""
    with suppress(ValueError, IndexError, TypeError, KeyError, RecursionError):
        word = json.loads(line[2:])[1]
        return word if word in ("done", "too slow", "stopped") else "died"
    return "died"


def _may_lack_time(outcome: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a limit can have been the cause: a program may catch what the clock raises."""
    found = {outcome[name]["hardened"] for name in ("base", "plus") if name in outcome} - {PASS}
    slow = outcome["slow"] or outcome["seconds"] >= request["limits"]["min_time_limit"]
    return not outcome["too_much"] and (TIMEOUT in found or bool(found and slow))


def gave_up(request: Mapping[str, Any]) -> dict[str, Any]:
    """Outcome of a program that nobody could judge."""
    failed = {"stock": FAIL, "hardened": FAIL, "tested": 0}
    names = ("base",) if request["base_only"] else ("base", "plus")
    return {**dict.fromkeys(names, failed), "slow": False, "too_much": False, "seconds": 0.0}


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]))
