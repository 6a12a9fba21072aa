"""Overrides checked before Hydra composes them.

Hydra silently accepts some that cannot be meant (a list merges the choices of a group), and ends
others in a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from alps.base.serialization import SettingsError, did_you_mean
from alps.config import hydra_internals
from alps.config.compose import conf_dir
from alps.config.errors import first_message_line
from alps.config.hydra_internals import MAX_POINTS, override_values


@dataclass
class ParsedOverrides:
    """Overrides of a command as Hydra's parser reads them.

    Attributes:
        parsed: Overrides that can be parsed.
        valid: Those of them without a problem, in settings without a problem.
        problems: Sentences about the others.
    """

    parsed: list[Override]
    valid: list[Override]
    problems: list[str]


def read_overrides(
    overrides: Iterable[str], loader: ConfigLoader, config_name: str, sweeps: bool
) -> ParsedOverrides:
    """Parses overrides and checks them one by one and together, composing nothing.

    Args:
        overrides: As on the command line.
        loader: Hydra's loader.
        config_name: Root config.
        sweeps: Whether several values make a grid here.
    """
    problems: list[str] = []
    parsed = _parse(overrides, loader, problems)
    elsewhere, invalid = bool(search_path(parsed)), set()
    for override in parsed:
        own = list(_override_problems(override, loader, sweeps, elsewhere))
        problems += own
        invalid |= {override.key_or_group} if own else set()
    problems += _joint_problems(parsed, config_name)
    keys = ((o, {o.key_or_group, o.key_or_group.split(".")[0]}) for o in parsed)
    valid = [o for o, own in keys if not own & invalid]
    return ParsedOverrides(parsed=parsed, valid=valid, problems=problems)


def check_overrides(
    overrides: Iterable[str], loader: ConfigLoader, config_name: str, sweeps: bool = False
) -> None:
    """Raises the problems of `read_overrides`, and one of a grid that is too large.

    Raises:
        SettingsError: All problems together.
    """
    form = read_overrides(overrides, loader, config_name, sweeps)
    problems = form.problems
    if prod(len(override_values(o)) for o in form.parsed if o.is_discrete_sweep()) > MAX_POINTS:
        problems.append(f"this grid has more than {MAX_POINTS} points: name fewer values")
    if problems:
        raise SettingsError(problems)


def _parse(overrides: Iterable[str], loader: ConfigLoader, problems: list[str]) -> list[Override]:
    """Overrides that can be parsed, each once; `problems` receives sentences about the others."""
    parser, parsed = OverridesParser.create(config_loader=loader), {}
    for text in overrides:
        try:
            override = parser.parse_override(text)
            override.config_loader = loader
            override_values(override)
            parsed[text] = override
        except Exception as error:  # a number of 5000 digits is no HydraException
            reason = first_message_line(error).split(" expecting ")[0]  # then come token names
            hint = """values with special characters need quotes, as in 'name="value"'"""
            problems.append(f"'{text}' cannot be read ({reason}): {hint}")
    return list(parsed.values())


def _override_problems(
    override: Override, loader: ConfigLoader, sweeps: bool, elsewhere: bool
) -> Iterator[str]:
    """Sentences about one override, whatever the others are.

    Args:
        override: Parsed override.
        loader: Hydra's loader.
        sweeps: Whether several values make a grid here.
        elsewhere: Whether choices may lie in other folders than `conf`.
    """
    key, text = override.key_or_group, override.input_line or ""
    if key.startswith("hydra.sweeper.params"):
        yield f"{text}: name the values of a sweep themselves, as in -m seed=0,1"
        return
    if re.match(r"hydra($|\.callbacks)", key):
        yield f"{text}: Hydra's callbacks hold the checks before a run; leave it out"
        return
    if re.match(r"method\.report($|\.)", key):
        yield f"{text}: labels and colors in reports are read from the file in conf/method"
    if not key:
        yield f"{text} names no setting"
    choices = group_options(key, loader)
    if choices and override.is_delete() and override.package is None:
        empty = key in _defaults() and _defaults()[key] is None
        remedy = f"leave {key} out" if empty else f"choose another one ({', '.join(choices)})"
        yield f"{text}: every run has its {key}; {remedy}"
    elif override.is_sweep_override():
        yield from _sweep_problems(override, bool(choices), sweeps)
    for value in override_values(override) if choices and not override.is_delete() else ():
        if not (elsewhere and isinstance(value, str)):
            yield from _choice_problems(key, value, choices)


def _joint_problems(parsed: Sequence[Override], config_name: str) -> Iterator[str]:
    """Sentences about overrides without effect: additions that nothing reads, lost sweeps.

    Args:
        parsed: All overrides of a command.
        config_name: Root config.
    """
    yield from _lost_sweeps(parsed)
    if config_name not in ("train", "evaluate") or search_path(parsed):
        return  # options of a metric are added; files elsewhere may read anything
    known = {*_defaults(), *_root("train"), *_root(config_name), "grid"} - {"defaults", "hydra"}
    for override in parsed:
        name = re.split(r"[.@/]", override.key_or_group)[0]
        added = override.is_add() or override.is_force_add()
        read = any("${" + name in (o.input_line or "") for o in parsed)
        if added and name not in {*known, "hydra"} and not read:
            yield f"{name} is not a setting{did_you_mean(name, known)}"


def _lost_sweeps(parsed: Sequence[Override]) -> Iterator[str]:
    """Sentences about swept settings that are set twice: Hydra would drop the sweep."""
    for override in parsed:
        again = [
            o.input_line or "" for o in parsed if o.get_key_element() == override.get_key_element()
        ]
        if override.is_sweep_override() and len(again) > 1:
            yield f"{' and '.join(again)} name one setting: give all its values together"


def _sweep_problems(override: Override, is_group: bool, sweeps: bool) -> Iterator[str]:
    text = override.input_line or ""
    if not sweeps:
        yield f"{text} names several values: only a grid (alps train -m) takes them"
    elif override.is_interval_sweep() and not is_group:
        return  # for sweepers that draw
    elif str(override.value_type).endswith("GLOB_CHOICE_SWEEP") and not is_group:
        yield f"{text} chooses among files, and {override.key_or_group} is no folder of conf"
    elif not override_values(override):
        yield f"{text} names no value"


def _choice_problems(group: str, value: Any, choices: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        several = ",".join(map(str, value))
        yield f"{group}={value} is no choice: one run has one; a grid is -m {group}={several}"
    elif value is None and _defaults().get(group, "") is None:
        yield f"{group}=null: leave {group} out"
    elif group == "model" and "/" in str(value):
        yield f"model={value}: of several values, folders and hub ids are named by model.path"
    elif value not in choices:
        word = "null" if value is None else str(value)
        yield f"there is no {group}={word}{did_you_mean(word, choices)}"


def group_options(key: str, loader: ConfigLoader) -> list[str]:
    """Choices of a config group; an empty list for any other key."""
    return hydra_internals.group_options(key, loader) if re.fullmatch(r"\w[\w/]{0,99}", key) else []


def search_path(parsed: Iterable[Override]) -> list[str]:
    """Overrides that add config folders beside `conf`."""
    return [o.input_line or "" for o in parsed if o.key_or_group == "hydra.searchpath"]


def may_sweep(overrides: Iterable[str]) -> bool:
    """Whether overrides may make a grid without `-m`."""
    return any(re.match(r"\+*(experiment|hydra\.mode)=", o) for o in overrides)


@cache
def _defaults() -> dict[str, str | None]:
    """Default choice of each group in `conf/train.yaml`."""
    choices = [entry for entry in _root("train")["defaults"] if isinstance(entry, dict)]
    return {
        group: choice
        for entry in choices
        for group, choice in entry.items()
        if not group.startswith("override ")
    }


@cache
def _root(config_name: str) -> dict[str, Any]:
    """A root config without its choices."""
    root: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{config_name}.yaml"))
    return root
