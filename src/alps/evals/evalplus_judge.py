"""Runs generated programs on EvalPlus' tests: a process of its own that never imports torch.

    python -P -m alps.evals.evalplus_judge expected|judge FOLDER

`expected` runs the trusted reference solutions and keeps what they return in the cache; `judge`
runs what a model wrote, and needs to write nowhere but in FOLDER, which holds `request.json` and
the problems. EvalPlus limits the address space of each program, and the limit counts what its
parent has reserved: under a process that uses CUDA right programs would fail without a word.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

Problem = dict[str, Any]
Limits = Mapping[str, float]
SANITIZE_SECONDS = 30.0  # EvalPlus tries every pair of lines, which can take minutes
GAVE_UP = "gave up"
_problems: dict[str, Problem] = {}  # of a worker


def main(mode: str, folder: Path) -> None:
    """Reads `request.json` and, for `judge`, writes `verdicts.json`."""
    request = json.loads((folder / "request.json").read_text())
    if mode == "expected":
        expect(request)
    else:
        (folder / "verdicts.json").write_text(json.dumps(judge(request)))


def expect(request: Mapping[str, Any]) -> None:
    """Computes what reference solutions return, a file for each problem that has none yet."""
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    from evalplus.evaluate import get_groundtruth

    mbpp = request["dataset"] == "mbpp"
    for task, problem in load(request["dataset"]).items():
        path = _expected_path(request, task)
        if path.exists():
            continue
        mine = path.with_name(f"{path.stem}.{os.getpid()}.pkl")
        mine.unlink(missing_ok=True)  # EvalPlus would read what another process left half written
        get_groundtruth({task: problem}, mine.stem, MBPP_OUTPUT_NOT_NONE_TASKS if mbpp else [])
        mine.replace(path)


def judge(request: Mapping[str, Any]) -> dict[str, Any]:
    """Sanitizes and judges one program a problem.

    A program that may have failed for lack of time is judged again, alone and with longer limits.

    Args:
        request: `dataset`, `programs` (task -> text), `expected` (task -> name of the file with
            what the reference returns), `base_only`, `workers`, `limits` and `longer_limits`
            (`min_time_limit` and `gt_time_limit_factor` of EvalPlus).

    Returns:
        EvalPlus' results under `eval_results`, and under `notes` what it doesn't tell: task ->
        seconds, reason, and whether it was judged again or left as the model wrote it.
    """
    problems = load(request["dataset"])
    assert set(problems) == set(request["programs"]), "one program for each problem"
    found = _run(_sanitized, request, problems, request["workers"])
    solutions = {task: found.get(task, request["programs"][task]) for task in problems}
    work = {**request, "solutions": solutions}
    outcomes = _run(_outcome, work, problems, work["workers"])
    again = [t for t in problems if t not in outcomes or _may_lack_time(outcomes[t], request)]
    for task in again:
        lonely = _run(_outcome, {**work, "limits": work["longer_limits"]}, [task], 1)
        outcomes[task] = {**lonely.get(task, {"seconds": 0.0, GAVE_UP: True}), "again": True}
    results = {t: [_result(t, problems[t], solutions[t], outcomes[t], request)] for t in problems}
    notes = {
        task: {
            "seconds": round(outcome["seconds"], 3),
            "judged_again": outcome.get("again", False),
            "sanitized": task in found,
            "reason": _reason(problems[task], results[task][0], outcome, request),
        }
        for task, outcome in outcomes.items()
    }
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    head = {"date": date, "hash": request["hash"]}
    return {"eval_results": {**head, "eval": results}, "notes": notes, "torch": _has_torch()}


def load(dataset: str) -> dict[str, Problem]:
    """The problems, from the file that EvalPlus' variable in the environment names."""
    from evalplus.data import get_human_eval_plus, get_mbpp_plus

    return get_mbpp_plus() if dataset == "mbpp" else get_human_eval_plus()


def _run(
    work: Any, request: Mapping[str, Any], tasks: Iterable[str], workers: int
) -> dict[str, Any]:
    """What `work` gives for each task; a task whose worker was killed has no entry."""
    done: dict[str, Any] = {}
    options = {"initializer": _begin_worker, "initargs": (request["dataset"],)}
    with ProcessPoolExecutor(workers, **options) as pool:
        futures = {}
        with suppress(BrokenProcessPool):
            for task in tasks:
                own = _of_task(task, request)
                futures[pool.submit(work, task, own)] = task
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                result = future.result()
                if result is not None:
                    done[futures[future]] = result
    return done


def _of_task(task: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """A request about one task only."""
    own = dict(request)
    for name in ("programs", "solutions", "expected"):
        if name in own:
            own[name] = own[name][task]
    return own


def _begin_worker(dataset: str) -> None:
    """What a program writes goes nowhere; it could write without end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    _problems.update(load(dataset))


def _sanitized(task: str, request: Mapping[str, Any]) -> str | None:
    """EvalPlus' reading of an answer, or None if it breaks on it or takes too long."""
    from evalplus.eval.utils import TimeoutException, time_limit
    from evalplus.sanitize import sanitize

    try:
        with time_limit(SANITIZE_SECONDS):
            return sanitize(request["programs"], _problems[task]["entry_point"])
    except (TimeoutException, ValueError, RecursionError):
        return None


def _outcome(task: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """EvalPlus' verdicts on a program, and the seconds they took."""
    from evalplus.evaluate import check_correctness

    with _expected_path(request, task).open("rb") as file:
        expected = pickle.load(file)[task]  # made by `expect`, in our own cache
    began = time.perf_counter()
    found = check_correctness(
        request["dataset"],
        0,
        _problems[task],
        request["solutions"],
        expected,
        base_only=request["base_only"],
        fast_check=True,
        identifier=task,
        **request["limits"],
    )
    seconds = time.perf_counter() - began
    return {name: found[name] for name in ("base", "plus") if name in found} | {"seconds": seconds}


def _may_lack_time(outcome: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a limit can have been the cause: EvalPlus calls a test that ran out of it failed."""
    failed = {o[0] for n, o in outcome.items() if n in ("base", "plus")} - {"pass"}
    slow = outcome["seconds"] >= request["limits"]["min_time_limit"]
    return "timeout" in failed or bool(failed and slow)


def _result(
    task: str, problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping
) -> dict[str, Any]:
    """An entry of `eval_results.json` as `evalplus.evaluate` writes it."""
    from evalplus.data.mbpp import mbpp_serialize_inputs

    entry: dict[str, Any] = {"task_id": task, "solution": solution}
    failing = {}
    for name in ("base", "plus"):
        given_up = GAVE_UP in outcome and not (name == "plus" and request["base_only"])
        status, details = outcome.get(name, ("fail" if given_up else None, []))
        entry[f"{name}_status"] = status
        inputs = problem[f"{name}_input"]
        last = [inputs[len(details) - 1]] if status not in (None, "pass") and details else []
        if request["dataset"] == "mbpp":
            last = mbpp_serialize_inputs(task, last)
        failing[f"{name}_fail_tests"] = last
    return entry | failing


def _reason(
    problem: Problem, entry: Mapping[str, Any], outcome: Mapping[str, Any], request: Mapping
) -> str | None:
    """Why a program failed, as far as it can be told from outside; None if it passed."""
    statuses = [entry["base_status"], entry["plus_status"]]
    if all(status in ("pass", None) for status in statuses):
        return None
    if problem["entry_point"] == "find_zero" and request["dataset"] == "humaneval":
        return "cannot pass in EvalPlus 0.3.1"
    names = _defined(entry["solution"])
    limits = request["longer_limits" if outcome.get("again") else "limits"]
    if names is None:
        return "no Python"
    if problem["entry_point"] not in names:
        return "function missing"
    if outcome["seconds"] >= limits["min_time_limit"]:
        return "too slow"
    if "timeout" in statuses or GAVE_UP in outcome:
        return "ended its process"
    return "base tests" if entry["base_status"] != "pass" else "plus tests only"


def _defined(code: str) -> Sequence[str] | None:
    """Names that a program binds anywhere, or None if it doesn't compile."""
    try:
        nodes = list(ast.walk(compile(code, "solution", "exec", ast.PyCF_ONLY_AST)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    bound += [n.asname or n.name for n in nodes if isinstance(n, ast.alias)]
    defined = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return bound + [n.name for n in nodes if isinstance(n, defined)]


def _expected_path(request: Mapping[str, Any], task: str) -> Path:
    from evalplus.data.utils import CACHE_DIR

    name = request["expected"]
    return Path(CACHE_DIR, f"{name if isinstance(name, str) else name[task]}.pkl")


def _has_torch() -> bool:
    return "torch" in sys.modules


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
