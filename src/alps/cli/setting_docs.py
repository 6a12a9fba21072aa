"""Settings of a command for its `--help`, read from dataclasses and `conf`.

Defaults stand in the YAML files, choices in annotations and folders, descriptions in docstrings
(`Attributes:`) or, for settings without a dataclass, in the comments of the YAML files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from alps.base.serialization import TARGET, target_class
from alps.config.conf_dir import conf_dir

REQUIRED = "..."
"""Shown in place of a default."""

NOT_OF_A_PART = ("name", "ratio", "scope", "task_model", "benchmarks", "report")
"""Names in the YAML files of a run's parts that are no settings of the part."""

Choices = Mapping[str, Iterable[str]]
"""Setting -> its choices, where its annotation doesn't list them."""


@dataclass(frozen=True)
class Setting:
    """A setting as `--help` shows it.

    Attributes:
        name: As it is typed.
        default: As it would be typed, or `REQUIRED`.
        text: Description.
        choices: All possible values, or nothing.
    """

    name: str
    default: str
    text: str = ""
    choices: tuple[str, ...] = ()


def dataclass_settings(
    cls: type,
    defaults: Mapping[str, Any] | None = None,
    prefix: str = "",
    skip: Iterable[str] = (),
    choices: Choices | None = None,
) -> list[Setting]:
    """Settings that are fields of a dataclass; `from_` is typed `from`.

    Args:
        cls: The dataclass.
        defaults: Values that replace the defaults of the fields.
        prefix: Precedes each name.
        skip: Fields that nobody types.
        choices: As in `Choices`.
    """
    hints, docs = get_type_hints(cls), attribute_docs(cls)
    settings = []
    for field in fields(cls):
        if field.name in skip:
            continue
        value = (defaults or {}).get(field.name, field.default)
        if value is MISSING and field.default_factory is not MISSING:
            value = field.default_factory()
        name = field.name.rstrip("_")
        options = (choices or {}).get(name) or literal_choices(hints[field.name])
        settings.append(
            Setting(f"{prefix}{name}", as_typed(value), docs.get(field.name, ""), tuple(options))
        )
    return settings


def root_settings(
    config_name: str,
    cls: type | None = None,
    skip: Iterable[str] = (),
    choices: Choices | None = None,
) -> list[Setting]:
    """Settings of a root config in `conf`, in its order.

    Args:
        config_name: Name of the config.
        cls: Dataclass of those that are built into one.
        skip: Settings that nobody types.
        choices: As in `Choices`.
    """
    values, comments = read_yaml(config_name)
    skip = {*skip, "defaults", "hydra"}
    names = [name for name in values if name not in skip]
    own = {}
    if cls is not None:
        other = {f.name for f in fields(cls)} - set(names)
        own = {s.name: s for s in dataclass_settings(cls, values, "", other, choices)}
    bare = [
        Setting(n, as_typed(values[n]), comments.get(n, ""), tuple((choices or {}).get(n, ())))
        for n in names
    ]
    return [own.get(setting.name, setting) for setting in bare]


def group_settings(*groups: str) -> list[Setting]:
    """Config groups of a run: default choice, choices and description; all without arguments."""
    values, comments = read_yaml("train")
    settings = []
    for entry in values["defaults"]:
        for group, default in entry.items() if isinstance(entry, dict) else ():
            if group in (groups or [group]) and not group.startswith("override "):
                choices = config_choices(group)
                settings.append(Setting(group, as_typed(default), comments.get(group, ""), choices))
    return settings


def part_settings(*groups: str) -> dict[str, list[Setting]]:
    """Settings inside the default choices of groups, by the title of their section."""
    from alps.settings.run import Run, TaskModel

    classes = {**get_type_hints(Run), "task_model": TaskModel}
    sections = {}
    for choice in group_settings(*groups):
        group = choice.name
        values, comments = read_yaml(f"{group}/{choice.default}")
        for entry in values.pop("defaults", ()):
            if "how@_here_" in entry:
                inner, more = read_yaml(f"{group}/how/{entry['how@_here_']}")
                values, comments = {**inner, **values}, {**more, **comments}
        cls = target_class(values.pop(TARGET)) if TARGET in values else classes[group]
        settings = dataclass_settings(cls, values, f"{group}.", NOT_OF_A_PART)
        known = {*(f.name for f in fields(cls)), *NOT_OF_A_PART}
        settings += [
            Setting(f"{group}.{name}", as_typed(value), comments.get(name, ""))
            for name, value in values.items()
            if name not in known
        ]
        sections[f"Settings of {group}={choice.default}"] = settings
    return sections


def config_choices(group: str) -> tuple[str, ...]:
    """Choices of a config group."""
    return tuple(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))


def read_yaml(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of a config file as it stands, and the comments behind them by setting."""
    text = (conf_dir() / f"{name}.yaml").read_text()
    lines = re.findall(r"^(?:  - )?(\w+):[^#\n]*?\s#\s*(.+)$", text, re.M)
    return yaml.safe_load(text), dict(lines)


def attribute_docs(cls: type) -> dict[str, str]:
    """Descriptions under `Attributes:` of a class and those it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, text = cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
        for name, words in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", text, re.M):
            docs[name] = " ".join(words.split())
    return docs


def literal_choices(hint: Any) -> tuple[str, ...]:
    """Values of a type that has few."""
    if hint is bool:
        return ("true", "false")
    if hint is NoneType:
        return ("null",)
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    parts = [literal_choices(part) for part in get_args(hint)]
    whole = parts and all(parts) and get_origin(hint) is not tuple
    return tuple(value for part in parts for value in part) if whole else ()


def as_typed(value: Any) -> str:
    """A default as one would type it."""
    if value is MISSING or value == "???":
        return REQUIRED
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("...\n").strip()
