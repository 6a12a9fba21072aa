"""Scores answers to requests with format constraints: one function per kind of constraint.

A new kind is one function below with the name of the kind; its keywords are the parameters.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[..., bool]
CHECKS: dict[str, Check] = {}


def constraint_results(completion: str, check: Mapping[str, Any]) -> list[bool]:
    """Whether a completion satisfies each constraint of an example.

    A blank completion satisfies none. Surrounding white space is ignored.

    Args:
        completion: The model's output.
        check: The example's check: `constraints`, a list of each `kind` and its parameters.
    """
    text = completion.strip()
    results = []
    for constraint in check["constraints"]:
        params = {name: value for name, value in constraint.items() if name != "kind"}
        results.append(bool(text) and CHECKS[constraint["kind"]](text, **params))
    return results


def constraint_check(check: Check) -> Check:
    """Registers the check of the kind of constraint with its name."""
    CHECKS[check.__name__] = check
    return check


@constraint_check
def num_bullets(text: str, *, count: int) -> bool:
    """Exactly `count` lines start with a dash or an asterisk."""
    return len(re.findall(r"^\s*[-*]\s+\S", text, re.MULTILINE)) == count


@constraint_check
def num_numbered(text: str, *, count: int) -> bool:
    """The lines that start with a number are numbered from 1 to `count`."""
    numbers = re.findall(r"^[ \t]*(\d+)[.)]\s", text, re.MULTILINE)
    return numbers == [str(number) for number in range(1, count + 1)]


@constraint_check
def num_sentences(text: str, *, count: int) -> bool:
    """Exactly `count` sentences end in a full stop, question mark or exclamation mark."""
    return len(re.findall(r"[.!?]+[\"')]*(?:\s|$)", text)) == count


@constraint_check
def num_paragraphs(text: str, *, count: int) -> bool:
    """Blank lines separate exactly `count` paragraphs."""
    return len(re.split(r"\n[ \t]*\n\s*", text)) == count


@constraint_check
def json_keys(text: str, *, keys: list[str]) -> bool:
    """The text is a JSON object with exactly these keys."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and sorted(value) == sorted(keys)


@constraint_check
def lowercase(text: str) -> bool:
    """There are letters, all of them lowercase."""
    return text.islower()


@constraint_check
def uppercase(text: str) -> bool:
    """There are letters, all of them uppercase."""
    return text.isupper()


@constraint_check
def quoted(text: str) -> bool:
    """The text is enclosed in double quotes and contains no others."""
    return len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]


@constraint_check
def starts_with(text: str, *, phrase: str) -> bool:
    """More text follows the phrase at the start; case is ignored."""
    return text.lower().startswith(phrase.lower()) and len(text) > len(phrase)


@constraint_check
def ends_with(text: str, *, phrase: str) -> bool:
    """More text precedes the phrase at the end; case is ignored."""
    return text.lower().endswith(phrase.lower()) and len(text) > len(phrase)


@constraint_check
def no_commas(text: str) -> bool:
    """The text contains no comma."""
    return "," not in text


@constraint_check
def postscript(text: str) -> bool:
    """The last of several lines is a postscript after `P.S.`."""
    return re.search(r"\n\s*P\.S\.[ :]*\w[^\n]*\Z", text) is not None


@constraint_check
def use_word(text: str, *, word: str, count: int) -> bool:
    """The word occurs exactly `count` times; case is ignored."""
    return _occurrences(text, word) == count


@constraint_check
def avoid_word(text: str, *, word: str) -> bool:
    """The word does not occur; case is ignored."""
    return _occurrences(text, word) == 0


@constraint_check
def max_words(text: str, *, count: int) -> bool:
    """There are at most `count` words."""
    return len(text.split()) <= count


@constraint_check
def min_words(text: str, *, count: int) -> bool:
    """There are at least `count` words."""
    return len(text.split()) >= count


def _occurrences(text: str, word: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))
