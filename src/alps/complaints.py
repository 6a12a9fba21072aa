"""Every complaint about a configuration, worded for people who type settings; all told together."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.composing import loader
from alps.plain import TARGET, SettingsError, did_you_mean

Build = Callable[[DictConfig], object]
"""Makes settings of a composed config, or raises a SettingsError."""


def refuse(problems: Iterable[str]) -> int:
    """Prints problems as one sentence to stderr; returns the exit code of a refusal."""
    print(f"error: {'; '.join(dict.fromkeys(problems))}", file=sys.stderr)
    return 2


def explain(
    overrides: Sequence[str],
    build: Build,
    error: Exception | None = None,
    config_name: str = "train",
) -> list[str]:
    """Why Hydra could not compose these overrides: all complaints, in the user's words.

    Args:
        overrides: As given on the command line, sweeps included.
        build: What has more to say, once Hydra is content.
        error: What Hydra said, used if nothing better is found.
        config_name: Root config.
    """
    problems: list[str] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(OverridesParser.create().parse_override(text))
        except HydraException as trouble:
            hint = """values with special characters need quotes, as in 'name="value"'"""
            problems.append(f"'{text}' cannot be read ({first_line(trouble)}): {hint}")
    with loader() as groups:
        choices: dict[str, list[str]] = {}
        good: list[str] = []
        for override in parsed:
            options = groups.get_group_options(override.key_or_group)
            if options:
                values = _values(override)
                problems += [
                    f"there is no {override.key_or_group}={v}{did_you_mean(v, options)}"
                    for v in values
                    if v not in options and v not in ("null", "None")
                ]
                known = choices[override.key_or_group] = [v for v in values if v in options]
                good += [f"{override.get_key_element()}={v}" for v in known[:1]]
        for override in parsed:
            problems += _key_problems(override, good, choices, config_name)
        problems += _value_problems(parsed, good, config_name, build)
    return problems or [first_line(error) if error else "this configuration cannot be composed"]


def _key_problems(
    override: Override, good: list[str], choices: dict[str, list[str]], config_name: str
) -> list[str]:
    """Whether a plain setting exists, under every choice of its group that was asked for."""
    key = override.key_or_group
    is_group = key in choices
    if is_group or override.is_add() or override.is_delete() or key.startswith("hydra"):
        return []
    top = key.split(".")[0]
    problems = []
    for choice in choices.get(top) or [None]:
        config = compose(config_name, [*good, f"{top}={choice}"] if choice else good)
        node: Any = config
        for depth, name in enumerate(key.split(".")):
            if not OmegaConf.is_dict(node) or name not in list(node):  # `in` misses `???`
                known = [str(k) for k in node] if OmegaConf.is_dict(node) else []
                place = ".".join(key.split(".")[:depth])
                of = f" of {top}={choice}" if choice else ""
                hint = did_you_mean(name, [k for k in known if k not in ("name", TARGET)])
                problems.append(f"{key} is not a setting{of}{hint if known else f' of {place}'}")
                break
            node = None if OmegaConf.is_missing(node, name) else node[name]
    return problems


def _value_problems(
    parsed: list[Override], good: list[str], config_name: str, build: Build
) -> list[str]:
    """What `build` has to say about the overrides that Hydra accepts, one sweep value at a time."""
    plain = [o for o in parsed if not o.is_sweep_override()]
    accepted = list(good)
    for text in (o.input_line for o in plain if o.input_line):
        if _composed([*accepted, text], config_name) is not None:
            accepted.append(text)
    swept = [f"{o.key_or_group}={v}" for o in parsed if o.is_sweep_override() for v in _values(o)]
    problems = []
    for extra in ([], *([s] for s in swept)):
        config = _composed([*accepted, *extra], config_name)
        try:
            if config is not None:
                build(config)
        except SettingsError as error:
            problems += error.problems
    return problems


def _composed(overrides: list[str], config_name: str) -> DictConfig | None:
    try:
        return compose(config_name, overrides)
    except (HydraException, OmegaConfBaseException):
        return None


def without_repeats(problems: list[str]) -> list[str]:
    """A problem that every point of a sweep has is told once."""
    seen: dict[str, str] = {}
    for problem in problems:
        seen.setdefault(re.sub(r"^point \[.*?\]: ", "", problem), problem)
    return list(seen.values())


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(v) for v in override.sweep_string_iterator()]
    return [str(override.value())]


def first_line(error: BaseException) -> str:
    """Of what an exception says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
