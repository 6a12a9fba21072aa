"""A finding about this machine, and the decorator of the checks that make findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from alps.doctor.context import Context

State = Literal["ok", "info", "warning", "missing"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        name: Its subject.
        state: `ok`; `info` for what the runs do not need; `warning` for what costs something but
            stops no run; `missing` for what a run cannot do without.
        text: The finding, and what it costs.
        remedy: What to do about it.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """Name, finding and remedy on one line."""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return " ".join(f"{self.name}: {self.text}{remedy}".split())


Check = Callable[["Context"], Iterator[Finding]]

CHECKS: list[Check] = []
"""All checks, in the order of their definition."""


def check(function: Check) -> Check:
    """Marks a function as a check; `alps doctor` then calls it."""
    CHECKS.append(function)
    return function
