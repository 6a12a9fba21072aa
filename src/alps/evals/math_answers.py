r"""Judges answers to MATH: the last `\boxed{}` against the reference solution's.

Equal texts after normalisation are equal; otherwise math-verify compares what they mean.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 5
"""For math-verify to read or compare one answer."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>[^\s{$\\]))")
_REPLACED = (
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right|!|,|;|:|quad|qquad)(?![a-zA-Z])"), ""),
    (re.compile(r"\\text(?:bf|it|rm)?\{([^{}]*)\}|\\(?:mathrm|mbox)\{([^{}]*)\}"), r"\1\2"),
    (re.compile(r"\^\{?\\circ\}?|\\%|%|\\\$|\$"), ""),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\s+"), ""),
    (re.compile(r"\\frac(\w)(\w)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt(\w)"), r"\\sqrt{\1}"),
    (re.compile(r"\.$"), ""),
)


def reference(document: Mapping[str, Any]) -> str:
    r"""The reference answer of a document.

    Raises:
        ValueError: If its solution has no `\boxed{}`.
    """
    answer = last_boxed(document["solution"])
    if answer is None:
        raise ValueError(
            rf"the solution of {document['problem'][:60]!r} has no \boxed: get the file again"
        )
    return answer


def process_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether the last boxed answer is right; an answer without a box is wrong.

    Args:
        document: With `problem` and `solution`.
        results: The model's answer.
    """
    given = last_boxed(results[0])
    right = given is not None and same_answer(given, reference(document))
    return {"exact_match": float(right)}


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{}` holds, braces balanced; None if there is none or it has no end."""
    for box in reversed(list(_BOX.finditer(text))):
        if box["bare"]:
            return box["bare"]
        depth = 1
        for place in range(box.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if not depth:
                return text[box.end() : place]
        return None
    return None


def same_answer(given: str, wanted: str) -> bool:
    """Whether two answers are the same text, or mean the same to math-verify."""
    if not given.strip():
        return False
    if normalized(given) == normalized(wanted):
        return True
    from math_verify import parse, verify

    # Its time limit is an alarm, which only the main thread can set: elsewhere it refuses.
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    gold, answer = (
        parse(f"${text}$", parsing_timeout=limit)  # pyright: ignore[reportArgumentType]
        for text in (wanted, given)
    )
    return bool(verify(gold, answer, timeout_seconds=limit))


def normalized(answer: str) -> str:
    """Without spaces, units of angle and money, text commands, and thousands commas."""
    for pattern, replacement in _REPLACED:
        answer = pattern.sub(replacement, answer)
    left, equals, right = answer.partition("=")
    return right if equals and len(left) <= 2 and "=" not in right else answer
