"""Arguments of a command, split into `name=value` settings and the rest."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import NamedTuple


class Arguments(NamedTuple):
    """Arguments of a command.

    Attributes:
        values: Name -> value of its own settings; the last of several counts.
        others: All other arguments, in order.
    """

    values: dict[str, str]
    others: list[str]


def split_settings(arguments: Sequence[str], own: Container[str] | None = None) -> Arguments:
    """Splits off the command's own settings.

    Args:
        arguments: As on the command line.
        own: Names of these settings; None for every `name=value`.
    """
    values, others = {}, []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and (own is None or name in own):
            values[name] = value
        else:
            others.append(argument)
    return Arguments(values, others)


def without_multirun(arguments: Sequence[str]) -> list[str]:
    """Arguments without `-m`, for commands that always take a grid."""
    return [a for a in arguments if a not in ("-m", "--multirun")]


def top_level_name(override: str) -> str:
    """Setting or group that an override changes: `optim` of `++optim.lr=1`."""
    return re.split(r"[.@/=]", override.lstrip("+~"), maxsplit=1)[0]
