"""Judges answers to word problems: the number after the last `####`, as in GSM8K."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(
    r"[ \t]*(-?)[ \t]*\$?[ \t]*(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?![\d,.]*\d)"
)


def exact_match(completion: str, check: Mapping[str, Any]) -> bool:
    """Says whether a completion ends in the right number.

    Thousands commas, a dollar sign, decimals that are zero and words after the number don't
    matter. Without `####` an answer is wrong, whatever else it says.

    Args:
        completion: What the model wrote.
        check: The row's check, with the number under `answer`.
    """
    _, mark, rest = completion.rpartition("####")
    number = _NUMBER.match(rest)
    if not mark or number is None:
        return False
    sign, digits = number.groups()
    given = Decimal(digits.replace(",", ""))
    return (-given if sign else given) == Decimal(str(check["answer"]).replace(",", ""))
