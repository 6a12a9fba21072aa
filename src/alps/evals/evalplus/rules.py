"""EvalPlus' rules for what is right, applied to values that left a sandbox.

`evalplus.eval.unsafe_execute` compares inside the process that runs the program; here the same
comparison stands on the trusted side. A value arrives as a line of `sandbox_values`, and so is the
expected one: equal lines are equal values, and only others are read at all. Two verdicts come out:
`stock`, EvalPlus' own, and `hardened`, which is another where EvalPlus is wrong (HumanEval/32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alps.evals.sandbox.values import as_set, decode

PASS, FAIL, TIMEOUT = "pass", "fail", "timeout"
COMPARING_SECONDS = 20.0  # hashes can be made to collide
LONGEST = 4, 1 << 16
"""A line beyond so many times the expected one, and so many bytes, is wrong and not read: a hundred
bytes of memory could hide behind two of it."""


@dataclass(frozen=True)
class Rules:
    """What counts as right for one problem.

    Attributes:
        dataset: EvalPlus' name for the rules.
        entry_point: The function.
        atol: Absolute tolerance.
    """

    dataset: str
    entry_point: str
    atol: float

    @property
    def finds_zero(self) -> bool:
        """HumanEval/32: any zero of the polynomial is right."""
        return self.dataset == "humaneval" and self.entry_point == "find_zero"

    def view(self, reference: bool = False) -> str | None:
        """What of a result the rules look at, as `sandbox.Request` names it."""
        from evalplus.eval._special_oracle import (
            MBPP_OUTPUT_NOT_NONE_TASKS,
            MBPP_OUTPUT_SET_EQ_TASKS,
        )

        if self.dataset != "mbpp":
            return None
        if self.entry_point in MBPP_OUTPUT_NOT_NONE_TASKS:
            return "given" if reference else "truth"
        return "items" if self.entry_point in MBPP_OUTPUT_SET_EQ_TASKS else None

    def right(self, out: Any, expected: Any, given: Sequence[Any], atol: float) -> bool:
        """Whether a result is right.

        Args:
            out: The result.
            expected: What the reference gave.
            given: The arguments.
            atol: From `tolerance`.

        Raises:
            Exception: Whatever comparing raises: then it is wrong.
        """
        import numpy as np
        from evalplus.eval._special_oracle import _poly

        if self.finds_zero:
            return bool(abs(_poly(given[0], out)) <= self.atol)
        same = out == expected
        if self.dataset == "mbpp":
            same = self._right_in_mbpp(same, out, expected, given)
        if same or atol == 0:
            return bool(same)
        if type(out) is not type(expected):
            return False
        if isinstance(expected, list | tuple) and len(out) != len(expected):
            return False
        return bool(np.allclose(out, expected, rtol=1e-07, atol=atol))

    def _right_in_mbpp(self, same: bool, out: Any, expected: Any, given: Sequence[Any]) -> bool:
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
            return same or abs(out - _surface_Area(*given)) <= self.atol
        if self.entry_point == "digit_distance_nums":
            return same or out == _digit_distance_nums(*given)
        if self.entry_point in MBPP_OUTPUT_SET_EQ_TASKS:
            return as_set(out) == set(expected)
        return same


class Comparison:
    """Lines of one part of the tests, compared as they come."""

    def __init__(self, rules: Rules, inputs: Sequence[Any], expected: Sequence[bytes]):
        """Nothing has come yet.

        Args:
            rules: Of the problem.
            inputs: Arguments of each call.
            expected: Lines of what the reference gave.
        """
        self._rules, self._inputs, self._expected = rules, inputs, expected
        self._atol, self._known = rules.atol, 0
        self.tested = 0  # calls that were judged
        self.failed = self.slow = False

    def take(self, line: bytes) -> bool:
        """Judges a line of the runner; False if no further one can change the verdict."""
        if self.failed or self.tested == len(self._inputs):
            self.failed = True
            return False
        if line[:1] != b"x":  # else the program could not even be read
            self.tested += 1
        self.slow = line[:1] == b"t"
        self.failed = line[:1] != b"v" or not self._is_right(line[1:], self.tested - 1)
        return not self.failed

    def verdicts(self, ended: str) -> dict[str, Any]:
        """Both verdicts.

        Args:
            ended: How the part ended, in the runner's words.

        Returns:
            `stock` and `hardened` status, and how many calls EvalPlus says it tested.
        """
        whole = self.tested == len(self._inputs) and ended == "done"
        status = FAIL if self.failed else PASS if whole else TIMEOUT
        stock, tested = status, self.tested
        if self._rules.finds_zero:  # EvalPlus forgets to count a test of it that is passed
            tested = int(self.failed and tested > 0)
            stock = FAIL if status == PASS and self._inputs else status
        return {"stock": stock, "hardened": status, "tested": tested}

    def _is_right(self, line: bytes, number: int) -> bool:
        from evalplus.eval.utils import TimeoutException, time_limit

        expected = self._expected[number]
        if line == expected and b"NaN" not in line and not self._rules.finds_zero:
            return True
        times, more = LONGEST
        if len(line) > times * len(expected) + more:
            return False
        try:
            atol = self._tolerance(number)
            with time_limit(COMPARING_SECONDS):
                out = decode(line)
                given = self._inputs[number]
                return self._rules.right(out, decode(expected), given, atol)
        except (Exception, TimeoutException):
            return False

    def _tolerance(self, number: int) -> float:
        """That of a call: EvalPlus keeps the one for floats once it has met a float."""
        from evalplus.eval import is_floats

        while self._atol == 0 and self._known <= number:
            if is_floats(decode(self._expected[self._known])):
                self._atol = 1e-6
            self._known += 1
        return self._atol
