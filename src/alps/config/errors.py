"""Wording of errors in settings: every problem is one sentence, and all are printed together."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

MAX_LETTERS = 600
"""Letters of one printed problem; a longer one is cut in its middle."""


def exit_with_errors(problems: Iterable[str]) -> NoReturn:
    """Prints problems as one line to stderr and exits with code 2."""
    print(f"error: {'; '.join(dict.fromkeys(map(one_line, problems)))}", file=sys.stderr)
    sys.exit(2)


def one_line(text: str) -> str:
    """Text on one line: control characters escaped, the middle of a long text left out."""
    if len(text) > MAX_LETTERS:
        text = f"{text[: MAX_LETTERS // 2]} ... {text[-MAX_LETTERS // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split("\n")))


def error_messages(error: Exception) -> list[str]:
    """Problems that an exception reports, one sentence each."""
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return [f"{error.full_key} cannot be resolved ({first_message_line(error)})"]
    if isinstance(error, OSError) and error.filename:
        return [f"{error.filename} cannot be used ({error.strerror})"]
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        place = f"line {error.problem_mark.line + 1} of {error.problem_mark.name}"
        return [f"{place} cannot be read as YAML ({error.problem})"]
    reason = first_message_line(error.__cause__) if error.__cause__ else ""
    cause = f" ({reason})" if reason not in str(error) else ""
    return getattr(error, "problems", [f"{first_message_line(error)}{cause}"])


def first_message_line(error: BaseException) -> str:
    """First line of an exception's message, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def without_repeats(problems: Iterable[str]) -> list[str]:
    """Problems of a sweep's points, without those that another point reported."""
    seen: dict[str, str] = {}
    for problem in problems:
        seen.setdefault(re.sub(r"^point \[.*?\]: ", "", problem), problem)
    return list(seen.values())
