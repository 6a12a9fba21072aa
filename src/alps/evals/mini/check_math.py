"""Scores answers to word problems: the number after the last `####`, as in GSM8K."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(
    r"[ \t]*(-?)[ \t]*\$?[ \t]*(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?![\d,.]*\d)"
)


def exact_match(completion: str, check: Mapping[str, Any]) -> bool:
    """Whether the final number of a completion is correct.

    Thousands separators, a dollar sign, trailing zeros and words after the number are ignored. An
    answer without `####` is wrong.

    Args:
        completion: The model's output.
        check: The example's check, with the number under `answer`.
    """
    _, mark, rest = completion.rpartition("####")
    number = _NUMBER.match(rest)
    if not mark or number is None:
        return False
    sign, digits = number.groups()
    value = Decimal(digits.replace(",", ""))
    return (-value if sign else value) == Decimal(str(check["answer"]).replace(",", ""))
