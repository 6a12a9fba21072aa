"""Why a configuration cannot be composed or built: all problems, in the user's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from alps.base.serialization import TARGET, SettingsError, did_you_mean
from alps.config import compose
from alps.config.compose import loader
from alps.config.errors import error_messages, first_message_line
from alps.config.hydra_internals import override_texts
from alps.config.method_styles import REPORT
from alps.config.overrides import group_options, read_overrides, search_path

Build = Callable[[DictConfig], object]
"""Builds settings of a composed config, or raises a SettingsError."""

Compose = Callable[..., DictConfig | None]
"""Composes overrides; None where Hydra cannot."""

MAX_TRIED = 20
"""Values of one axis that are checked once another problem was found."""


def explain(
    overrides: Sequence[str],
    build: Build,
    error: Exception | None = None,
    config_name: str = "train",
    sweeps: bool = True,
) -> list[str]:
    """All problems of overrides that Hydra could not compose, or `build` not accept.

    Args:
        overrides: As given on the command line, sweeps included.
        build: Checks a config that Hydra composed.
        error: Hydra's error, reported if no better explanation is found.
        config_name: Root config.
        sweeps: Whether several values make a grid here.
    """
    with loader() as hydra:
        form = read_overrides(overrides, hydra, config_name, sweeps)
        problems = form.problems
        parsed = form.valid
        choices = {o.key_or_group: override_texts(o) for o in parsed if _chooses(o, hydra)}
        good = {group: texts[0] for group, texts in choices.items()}
        packaged = [o.input_line or "" for o in parsed if o.package and not o.is_delete()]
        folders = search_path(form.parsed)

        @cache
        def composed(*extra: str) -> DictConfig | None:
            chosen = [f"{k}={v}" for k, v in good.items() if f"{k}={v}" not in extra]
            try:
                return compose.composed(
                    config_name, list(dict.fromkeys([*folders, *chosen, *packaged, *extra]))
                )
            except Exception:
                return None

        known = []
        for override in parsed:
            own = list(_key_problems(override, choices, composed))
            problems += own
            known += [] if own or override.key_or_group in choices else [override]
        swept = [f"{group}={text}" for group in choices for text in choices[group][1:MAX_TRIED]]
        problems += _value_problems(known, swept, composed, build)
    if problems:
        return problems
    return error_messages(error) if error else ["this configuration cannot be composed"]


def _chooses(override: Override, hydra: ConfigLoader) -> bool:
    replaces = not override.is_delete() and override.package is None
    return replaces and bool(group_options(override.key_or_group, hydra))


NO_SETTINGS = ("name", TARGET, REPORT)
"""Names in the YAML files that nobody sets."""


def _key_problems(
    override: Override, choices: dict[str, list[str]], composed: Compose
) -> Iterator[str]:
    """Sentences if a setting does not exist under every choice of its group."""
    key = override.key_or_group
    added = override.is_add() or override.is_force_add()
    if key in choices or added or override.is_delete() or key.startswith("hydra"):
        return
    top = key.split(".")[0]
    for i, choice in enumerate(choices.get(top) or [None]):
        node: Any = composed(f"{top}={choice}") if i else composed()
        if node is None:
            return
        for depth, name in enumerate(key.split(".")):
            if not OmegaConf.is_dict(node) or name not in list(node):  # `in` misses `???`
                known = [str(k) for k in node] if OmegaConf.is_dict(node) else []
                place = ".".join(key.split(".")[:depth])
                of = f" of {top}={choice}" if choice else ""
                hint = did_you_mean(name, [k for k in known if k not in NO_SETTINGS])
                yield f"{key} is not a setting{of}{hint if known else f' of {place}'}"
                break
            opaque = OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name)
            node = None if opaque else node[name]


def _value_problems(
    parsed: list[Override], choices: list[str], composed: Compose, build: Build
) -> list[str]:
    """Problems that `build` finds in overrides that Hydra accepts, one value of a sweep at a time.

    Args:
        parsed: Valid overrides outside of the config groups.
        choices: Second and further choices of each swept group.
        composed: Composes the first choice of each group with further overrides.
        build: As in `explain`.
    """
    texts = [o.input_line for o in parsed if o.input_line and not o.is_sweep_override()]
    accepted: list[str] = []
    if composed(*texts) is not None:
        accepted = texts
    else:
        for text in texts:
            if composed(*accepted, text) is not None:
                accepted.append(text)
    sweeps = [o for o in parsed if o.is_sweep_override()]
    swept = [f"{o.get_key_element()}={v}" for o in sweeps for v in override_texts(o)[:MAX_TRIED]]
    problems: list[str] = []
    for extra in ((), *((s,) for s in [*choices, *swept])):
        config = composed(*accepted, *extra)
        try:
            if config is not None:
                build(config)
        except SettingsError as error:
            problems += error.problems
        except Exception as error:
            problems.append(first_message_line(error))
    return problems
