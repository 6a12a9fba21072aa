r"""Scores answers to MATH: the last `\boxed{}` against the one of the reference solution.

Answers are equal if their normalized texts are; otherwise math-verify compares their values. It
ignores bases of numbers, a.m. and p.m., and braces, which are compared here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

TIMEOUT_SECONDS = 5
"""Time limit of math-verify to parse or compare one answer."""

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
_BASE = re.compile(
    r"(?<![A-Za-z0-9.\\])(?P<open>\()?(?P<numeral>\d[0-9A-Z.]*)(?(open)\))"
    r"(?:_|(?=\(?base))\{?\(?(?:base-?)?(?P<base>\d+|[a-z]+)\)?\}?"
)
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_WORDS += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"]
_HALF_OF_DAY = re.compile(r"(?<=\d)([ap])\.?m\.?$", re.IGNORECASE)
_SET, _PAIR = re.compile(r"\\\{.*\\\}"), re.compile(r"[(\[].*,.*[)\]]")
_VARIABLES = re.compile(r"(?<![A-Za-z\\])(?!cm|dm|mm|km|kg|ft|lb|hr|yr|am|pm)[A-Za-z]{1,2}\s*$")


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
        document: A problem with `problem` and `solution`.
        results: The model's answer.
    """
    answer = last_boxed(results[0])
    right = answer is not None and same_answer(answer, reference(document))
    return {"exact_match": float(right)}


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{}`, braces balanced; None if there is none or it is open."""
    for box in reversed(list(_BOX.finditer(text))):
        if box["bare"]:
            return box["bare"]
        depth = 1
        for end in range(box.end(), len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if not depth:
                return text[box.end() : end]
        return None
    return None


def same_answer(answer: str, target: str) -> bool:
    """Whether two answers have the same text, or the same value by math-verify.

    Bases of numbers, a.m. and p.m., braces and brackets must agree. A target without a base is
    decimal; an answer without one is in the base of the problem. Units don't count, as in MATH's
    own grader.

    Args:
        answer: The model's boxed answer.
        target: The reference answer.
    """
    if not answer.strip():
        return False
    texts = normalized(answer), normalized(target)
    if texts[0] == texts[1]:
        return True
    (bare_answer, bases), (bare_target, target_bases) = (_without_bases(text) for text in texts)
    if bases and bases != (target_bases or [10] * len(bases)):
        return False
    if bases or target_bases:
        answer, target = bare_answer, bare_target
        if answer == target:
            return True
    halves = [half[1].lower() for text in texts if (half := _HALF_OF_DAY.search(text))]
    if len(set(halves)) == 2 or any(
        _SET.fullmatch(one) and _PAIR.fullmatch(other) for one, other in (texts, texts[::-1])
    ):
        return False
    return _same_value(answer, target)


def _same_value(answer: str, target: str) -> bool:
    from math_verify import verify

    # Its time limit is a signal, which only the main thread can set.
    limit = TIMEOUT_SECONDS if threading.current_thread() is threading.main_thread() else None
    gold, prediction = _parsed(target, limit), _parsed(answer, limit)
    return bool(verify(gold, prediction, timeout_seconds=limit))


def _parsed(text: str, limit: int | None) -> list:
    """Parses an answer with math-verify, which by default takes the variable of `4t` for a unit."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    latex = LatexExtractionConfig()
    if _VARIABLES.search(text):
        rules = replace(latex.normalization_config, units=False)
        latex = replace(latex, normalization_config=rules)
    kinds = [latex, ExprExtractionConfig()]
    return parse(f"${text}$", kinds, parsing_timeout=limit)  # pyright: ignore[reportArgumentType]


def _without_bases(text: str) -> tuple[str, list[int]]:
    """A normalized answer without the bases of its numerals, and the bases."""
    bases: list[int] = []

    def bare(match: re.Match[str]) -> str:
        word = match["base"]
        if word in _WORDS:
            word = str(_WORDS.index(word))
        if not word.isdigit():
            return match[0]
        bases.append(int(word))
        return match["numeral"]

    return _BASE.sub(bare, text), bases


def normalized(answer: str) -> str:
    """An answer without spaces, units of angle and money, text commands and thousands commas."""
    for pattern, replacement in _REPLACED:
        answer = pattern.sub(replacement, answer)
    left, equals, right = answer.partition("=")
    return right if equals and len(left) <= 2 and "=" not in right else answer
