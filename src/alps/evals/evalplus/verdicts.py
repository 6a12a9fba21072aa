"""Verdicts on programs: in EvalPlus' format, and the reasons for failures."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alps.evals.evalplus.problems import Problem
from alps.evals.evalplus.rules import PASS, SUITES, TIMEOUT


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on one program per problem.

    Attributes:
        eval_results: In EvalPlus' format.
        notes: Task -> hardened verdicts, seconds, reason, and whether the program was judged again
            and whether it could be sanitized.
        sandbox: Name of the sandbox backend.
    """

    eval_results: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]]
    sandbox: str

    def passed(self, plus: bool) -> dict[str, bool]:
        """Task -> whether it passes the base tests and, with `plus`, the added ones too."""
        suites = SUITES if plus else SUITES[:1]
        return {t: all(n["hardened"][s] == PASS for s in suites) for t, n in self.notes.items()}

    def passed_in_evalplus(self, plus: bool) -> dict[str, bool]:
        """The same by EvalPlus' own verdicts, including its errors."""
        suites = SUITES if plus else SUITES[:1]
        results = self.eval_results["eval"].items()
        return {t: all(r[f"{s}_status"] == PASS for s in suites) for t, [r] in results}


def verdict_records(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two records of an outcome.

    Args:
        problem: With all its tests.
        solution: The program that ran.
        outcome: `base` and `plus` (`stock`, `hardened`, `tested`), `slow`, `too_much`, `seconds`,
            and `again` if it was judged again.
        request: Request of the judge.

    Returns:
        The entry of `eval_results.json` as written by `evalplus.evaluate`, and a note with what it
        lacks.
    """
    return _result(problem, solution, outcome, request), {
        "seconds": round(outcome["seconds"], 3),
        "judged_again": outcome.get("again", False),
        "hardened": {name: outcome[name]["hardened"] for name in SUITES if name in outcome},
        "reason": _failure_reason(problem, solution, outcome, request),
    }


def _result(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    from evalplus.data.mbpp import mbpp_serialize_inputs

    task = problem["task_id"]
    entry: dict[str, Any] = {"task_id": task, "solution": solution}
    failing = {}
    for name in SUITES:
        verdicts = outcome.get(name, {"stock": None, "tested": 0})
        entry[f"{name}_status"] = verdicts["stock"]
        last: list[Any] = []
        if verdicts["stock"] != PASS and verdicts["tested"]:
            last = [problem[f"{name}_input"][verdicts["tested"] - 1]]
        if request["dataset"] == "mbpp":
            last = mbpp_serialize_inputs(task, last)
        failing[f"{name}_fail_tests"] = last
    return entry | failing


def _failure_reason(
    problem: Problem, solution: str, outcome: Mapping[str, Any], request: Mapping[str, Any]
) -> str | None:
    """Why a program failed, as far as it shows from outside; None if it passed."""
    statuses = [outcome[name]["hardened"] for name in SUITES if name in outcome]
    if all(status == PASS for status in statuses):
        return None
    names = _bound_names(solution)
    limits = request["longer_limits" if outcome.get("again") else "limits"]
    if names is None:
        return "no Python"
    if problem["entry_point"] not in names:
        return "function missing"
    if outcome["too_much"]:
        return "too much output"
    if outcome["slow"] or outcome["seconds"] >= limits["min_time_limit"]:
        return "too slow"
    if TIMEOUT in statuses:
        return "ended its process"
    return "base tests" if statuses[0] != PASS else "plus tests only"


def _bound_names(code: str) -> Sequence[str] | None:
    """Names that a program binds anywhere, or None if it doesn't compile."""
    try:
        nodes = list(ast.walk(compile(code, "solution", "exec", ast.PyCF_ONLY_AST)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    bound += [n.asname or n.name for n in nodes if isinstance(n, ast.alias)]
    defined = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return bound + [n.name for n in nodes if isinstance(n, defined)]
