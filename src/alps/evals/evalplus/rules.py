"""EvalPlus' comparison rules, applied to values that left a sandbox.

`evalplus.eval.unsafe_execute` compares inside the process that runs the program; here the same
comparison runs on the trusted side. Results and expected values are encoded lines
(`sandbox.values`): equal lines are equal values, and only unequal lines are decoded. There are two
verdicts: `stock`, EvalPlus' own, and `hardened`, which differs where EvalPlus is wrong
(HumanEval/32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alps.evals.evalplus.problems import Problem
from alps.evals.sandbox.values import build_set, decode

PASS, FAIL, TIMEOUT = "pass", "fail", "timeout"
SUITES = ("base", "plus")
COMPARISON_SECONDS = 20.0  # hashes can be made to collide
MAX_LENGTH_RATIO, MAX_EXTRA_BYTES = 4, 1 << 16
"""A line longer than this times the expected line plus these bytes is wrong and not decoded: two
bytes of a line can take a hundred bytes of memory."""


@dataclass(frozen=True)
class Rules:
    """Comparison rules of one problem.

    Attributes:
        dataset: EvalPlus' dataset.
        entry_point: Name of the function.
        atol: Absolute tolerance.
    """

    dataset: str
    entry_point: str
    atol: float

    @classmethod
    def of(cls, dataset: str, problem: Problem) -> Rules:
        """The rules of a problem."""
        return cls(dataset, problem["entry_point"], problem["atol"])

    @property
    def accepts_any_zero(self) -> bool:
        """HumanEval/32: any zero of the polynomial is correct."""
        return self.dataset == "humaneval" and self.entry_point == "find_zero"

    def view(self, reference: bool = False) -> str | None:
        """The aspect of a result that the rules compare (`sandbox.process.Request.view`)."""
        from evalplus.eval._special_oracle import (
            MBPP_OUTPUT_NOT_NONE_TASKS,
            MBPP_OUTPUT_SET_EQ_TASKS,
        )

        if self.dataset != "mbpp":
            return None
        if self.entry_point in MBPP_OUTPUT_NOT_NONE_TASKS:
            return "not_none" if reference else "bool_or_not_none"
        return "items" if self.entry_point in MBPP_OUTPUT_SET_EQ_TASKS else None

    def is_correct(self, out: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
        """Whether a result is correct.

        Args:
            out: The result.
            expected: Result of the reference solution.
            arguments: Arguments of the call.
            atol: Absolute tolerance of the call.

        Raises:
            Exception: Any error of the comparison; the result is then wrong.
        """
        import numpy as np
        from evalplus.eval._special_oracle import _poly

        if self.accepts_any_zero:
            return bool(abs(_poly(arguments[0], out)) <= self.atol)
        same = out == expected
        if self.dataset == "mbpp":
            same = self._is_correct_in_mbpp(same, out, expected, arguments)
        if same or atol == 0:
            return bool(same)
        if type(out) is not type(expected):
            return False
        if isinstance(expected, list | tuple) and len(out) != len(expected):
            return False
        return bool(np.allclose(out, expected, rtol=1e-07, atol=atol))

    def _is_correct_in_mbpp(
        self, same: bool, out: Any, expected: Any, arguments: Sequence[Any]
    ) -> bool:
        from evalplus.eval._special_oracle import (
            MBPP_OUTPUT_SET_EQ_TASKS,
            _digit_distance_nums,
            _surface_Area,
        )

        if self.entry_point == "are_equivalent":
            return True
        if self.entry_point == "sum_div":
            return same or out == 0
        if self.entry_point == "surface_Area":
            return same or abs(out - _surface_Area(*arguments)) <= self.atol
        if self.entry_point == "digit_distance_nums":
            return same or out == _digit_distance_nums(*arguments)
        if self.entry_point in MBPP_OUTPUT_SET_EQ_TASKS:
            return build_set(out) == set(expected)
        return same


class Comparison:
    """Compares the output of one suite line by line."""

    def __init__(self, rules: Rules, inputs: Sequence[Any], expected: Sequence[bytes]):
        """Starts without a line.

        Args:
            rules: Rules of the problem.
            inputs: Arguments of each call.
            expected: Encoded result of each call of the reference solution.
        """
        self._rules, self._inputs, self._expected = rules, inputs, expected
        self._atol, self._num_scanned = rules.atol, 0
        self.tested = 0  # calls with a verdict
        self.failed = self.slow = False

    def add(self, line: bytes) -> bool:
        """Compares an output line; returns False once the suite has failed."""
        if self.failed or self.tested == len(self._inputs):
            self.failed = True
            return False
        if line[:1] != b"x":  # otherwise the program could not be executed
            self.tested += 1
        self.slow = line[:1] == b"t"
        self.failed = line[:1] != b"v" or not self._is_correct(line[1:], self.tested - 1)
        return not self.failed

    def verdicts(self, end: str) -> dict[str, Any]:
        """Both verdicts.

        Args:
            end: How the batch ended, as reported by the runner.

        Returns:
            `stock` and `hardened` status, and EvalPlus' count of `tested` calls.
        """
        complete = self.tested == len(self._inputs) and end == "done"
        status = FAIL if self.failed else PASS if complete else TIMEOUT
        stock, tested = status, self.tested
        if self._rules.accepts_any_zero:  # EvalPlus never counts a passed test of this problem
            tested = int(self.failed and tested > 0)
            stock = FAIL if status == PASS and self._inputs else status
        return {"stock": stock, "hardened": status, "tested": tested}

    def _is_correct(self, line: bytes, call: int) -> bool:
        from evalplus.eval.utils import TimeoutException, time_limit

        expected = self._expected[call]
        if line == expected and b"NaN" not in line and not self._rules.accepts_any_zero:
            return True
        if len(line) > MAX_LENGTH_RATIO * len(expected) + MAX_EXTRA_BYTES:
            return False
        try:
            atol = self._tolerance(call)
            with time_limit(COMPARISON_SECONDS):
                out = decode(line)
                return self._rules.is_correct(out, decode(expected), self._inputs[call], atol)
        except (Exception, TimeoutException):
            return False

    def _tolerance(self, call: int) -> float:
        """Tolerance of a call: as in EvalPlus, the first float expected sets it for all later."""
        from evalplus.eval import is_floats

        while self._atol == 0 and self._num_scanned <= call:
            if is_floats(decode(self._expected[self._num_scanned])):
                self._atol = 1e-6
            self._num_scanned += 1
        return self._atol
