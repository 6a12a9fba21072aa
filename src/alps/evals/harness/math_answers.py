r"""Judges answers to MATH: the last `\boxed{}` against the reference solution's.

Equal texts after normalisation are equal; otherwise math-verify compares what they mean. It does
not read all that is written: bases of numbers, a.m. and p.m., and braces are compared here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    """Whether two answers are the same text, or mean the same to math-verify.

    What both write out must agree: the base of a number, a.m. or p.m., braces or brackets. A
    reference without a base is decimal; an answer without one is in the base that the problem asks
    for.
    Units don't count, as in MATH's own grader.

    Args:
        given: What the model wrote in its box.
        wanted: The reference.
    """
    if not given.strip():
        return False
    texts = normalized(given), normalized(wanted)
    if texts[0] == texts[1]:
        return True
    (plain, bases), (asked, wanted_bases) = (_without_bases(text) for text in texts)
    if bases and bases != (wanted_bases or [10] * len(bases)):
        return False
    if bases or wanted_bases:
        given, wanted = plain, asked
        if given == wanted:
            return True
    halves = [half[1].lower() for text in texts if (half := _HALF_OF_DAY.search(text))]
    if len(set(halves)) == 2 or any(
        _SET.fullmatch(one) and _PAIR.fullmatch(other) for one, other in (texts, texts[::-1])
    ):
        return False
    return _mean_the_same(given, wanted)


def _mean_the_same(given: str, wanted: str) -> bool:
    from math_verify import verify

    # Its time limit is an alarm, which only the main thread can set: elsewhere it refuses.
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    gold, answer = _parsed(wanted, limit), _parsed(given, limit)
    return bool(verify(gold, answer, timeout_seconds=limit))


def _parsed(text: str, limit: int | None) -> list:
    """What math-verify reads; left alone, it takes the variable of `4t` for a unit."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    latex = LatexExtractionConfig()
    if _VARIABLES.search(text):
        rules = replace(latex.normalization_config, units=False)
        latex = replace(latex, normalization_config=rules)
    kinds = [latex, ExprExtractionConfig()]
    return parse(f"${text}$", kinds, parsing_timeout=limit)  # pyright: ignore[reportArgumentType]


def _without_bases(text: str) -> tuple[str, list[int]]:
    """A normalized answer with its numerals bare, and the bases that stood behind them."""
    bases: list[int] = []

    def bare(found: re.Match[str]) -> str:
        word = found["base"]
        if word in _WORDS:
            word = str(_WORDS.index(word))
        if not word.isdigit():
            return found[0]
        bases.append(int(word))
        return found["numeral"]

    return _BASE.sub(bare, text), bases


def normalized(answer: str) -> str:
    """Without spaces, units of angle and money, text commands, and thousands commas."""
    for pattern, replacement in _REPLACED:
        answer = pattern.sub(replacement, answer)
    left, equals, right = answer.partition("=")
    return right if equals and len(left) <= 2 and "=" not in right else answer
