"""Judges answers to requests with constraints on their form: one function a kind of constraint.

A new kind is one function below, named like the kind; its keywords are the kind's parameters.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[..., bool]
_TESTS: dict[str, Test] = {}


def constraint_results(completion: str, check: Mapping[str, Any]) -> list[bool]:
    """Says for each constraint of a row whether a completion satisfies it.

    A blank completion satisfies none. White space around the completion doesn't matter.

    Args:
        completion: What the model wrote.
        check: The row's check: a list under `constraints`, each with its `kind` and parameters.
    """
    text = completion.strip()
    results = []
    for constraint in check["constraints"]:
        params = {name: value for name, value in constraint.items() if name != "kind"}
        results.append(bool(text) and _TESTS[constraint["kind"]](text, **params))
    return results


def kind(test: Test) -> Test:
    """Enters a function under its name as the test of a kind of constraint."""
    _TESTS[test.__name__] = test
    return test


@kind
def num_bullets(text: str, *, count: int) -> bool:
    """As many lines as asked start with a dash or an asterisk."""
    return len(re.findall(r"^\s*[-*]\s+\S", text, re.MULTILINE)) == count


@kind
def num_numbered(text: str, *, count: int) -> bool:
    """The lines that start with a number are numbered 1., 2. and so on, up to the one asked."""
    numbers = re.findall(r"^[ \t]*(\d+)[.)]\s", text, re.MULTILINE)
    return numbers == [str(number) for number in range(1, count + 1)]


@kind
def num_sentences(text: str, *, count: int) -> bool:
    """As many sentences as asked end in a full stop, question or exclamation mark."""
    return len(re.findall(r"[.!?]+[\"')]*(?:\s|$)", text)) == count


@kind
def num_paragraphs(text: str, *, count: int) -> bool:
    """Blank lines separate as many paragraphs as asked."""
    return len(re.split(r"\n[ \t]*\n\s*", text)) == count


@kind
def json_keys(text: str, *, keys: list[str]) -> bool:
    """The whole text is a JSON object with exactly these keys."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and sorted(value) == sorted(keys)


@kind
def lowercase(text: str) -> bool:
    """There are letters, none of them a capital."""
    return text.islower()


@kind
def uppercase(text: str) -> bool:
    """There are letters, all of them capitals."""
    return text.isupper()


@kind
def quoted(text: str) -> bool:
    """The whole text stands in double quotes, and none inside."""
    return len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]


@kind
def starts_with(text: str, *, phrase: str) -> bool:
    """The text starts with a phrase and goes on; case doesn't matter."""
    return text.lower().startswith(phrase.lower()) and len(text) > len(phrase)


@kind
def ends_with(text: str, *, phrase: str) -> bool:
    """The text ends with a phrase after something else; case doesn't matter."""
    return text.lower().endswith(phrase.lower()) and len(text) > len(phrase)


@kind
def no_commas(text: str) -> bool:
    """There is no comma."""
    return "," not in text


@kind
def postscript(text: str) -> bool:
    """The last line, after others, is P.S. and something."""
    return re.search(r"\n\s*P\.S\.[ :]*\w[^\n]*\Z", text) is not None


@kind
def use_word(text: str, *, word: str, count: int) -> bool:
    """A word occurs exactly as often as asked; case doesn't matter."""
    return _occurrences(text, word) == count


@kind
def avoid_word(text: str, *, word: str) -> bool:
    """A word does not occur; case doesn't matter."""
    return _occurrences(text, word) == 0


@kind
def max_words(text: str, *, count: int) -> bool:
    """There are at most this many words."""
    return len(text.split()) <= count


@kind
def min_words(text: str, *, count: int) -> bool:
    """There are at least this many words."""
    return len(text.split()) >= count


def _occurrences(text: str, word: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))
