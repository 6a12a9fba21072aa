"""The outcome of a program in EvalPlus' format, and in words."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

Problem = dict[str, Any]


def describe(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An outcome as two entries.

    Args:
        problem: With all its tests.
        solution: The program that ran.
        outcome: `base` and `plus` (`stock`, `hardened`, `tested`), `slow`, `too_much`, `seconds`,
            and `again` if it was judged alone.
        request: Of the judge.

    Returns:
        That of `eval_results.json` as `evalplus.evaluate` writes it, and what it doesn't tell.
    """
    return _result(problem, solution, outcome, request), {
        "seconds": round(outcome["seconds"], 3),
        "judged_again": outcome.get("again", False),
        "hardened": {n: outcome[n]["hardened"] for n in ("base", "plus") if n in outcome},
        "reason": _reason(problem, solution, outcome, request),
    }


def _result(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    from evalplus.data.mbpp import mbpp_serialize_inputs

    task = problem["task_id"]
    entry: dict[str, Any] = {"task_id": task, "solution": solution}
    failing = {}
    for name in ("base", "plus"):
        found = outcome.get(name, {"stock": None, "tested": 0})
        entry[f"{name}_status"] = found["stock"]
        last: list[Any] = []
        if found["stock"] != "pass" and found["tested"]:
            last = [problem[f"{name}_input"][found["tested"] - 1]]
        if request["dataset"] == "mbpp":
            last = mbpp_serialize_inputs(task, last)
        failing[f"{name}_fail_tests"] = last
    return entry | failing


def _reason(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> str | None:
    """Why a program failed, as far as it can be told from outside; None if it passed."""
    statuses = [outcome[name]["hardened"] for name in ("base", "plus") if name in outcome]
    if all(status == "pass" for status in statuses):
        return None
    names = _defined(solution)
    limits = request["longer_limits" if outcome.get("again") else "limits"]
    if names is None:
        return "no Python"
    if problem["entry_point"] not in names:
        return "function missing"
    if outcome["too_much"]:
        return "too much output"
    if outcome["slow"] or outcome["seconds"] >= limits["min_time_limit"]:
        return "too slow"
    if "timeout" in statuses:
        return "ended its process"
    return "base tests" if statuses[0] != "pass" else "plus tests only"


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
