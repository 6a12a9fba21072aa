"""Checks of all runs of a command before any folder is made: cheap ones of all come first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alps.base.serialization import SettingsError
from alps.config.errors import error_messages, without_repeats
from alps.settings.run import Run


def check_runs(names: Sequence[str], runs: Sequence[Run], trains: bool = True) -> None:
    """Checks runs with their models and data.

    Args:
        names: Prefix of each run's messages.
        runs: The runs.
        trains: Whether they are trained, or only their base models evaluated.

    Raises:
        SettingsError: All problems together.
    """
    from alps.pipeline.preflight import RunCheck

    done: dict[str, Any] = {}
    checks = [RunCheck(run, trains, done) for run in runs]
    for_each(zip(names, checks, strict=True), RunCheck.check_files)
    for_each(zip(names, checks, strict=True), RunCheck.check_model)


def for_each(named: Iterable[tuple[str, Any]], step: Callable[[Any], object]) -> None:
    """Applies a step to everything; raises the problems of all together.

    Args:
        named: Prefix of messages, and what they are about.
        step: Raises on a problem.

    Raises:
        SettingsError: All problems together.
    """
    problems: list[str] = []
    for name, item in named:
        try:
            step(item)
        except Exception as error:
            problems += [f"{name}{p}" for p in error_messages(error)]
    if problems:
        raise SettingsError(without_repeats(problems))
