"""Every complaint about a configuration, worded for people who type settings; all told together."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from alps.base.serialization import TARGET, SettingsError, did_you_mean
from alps.config.compose import first_line, loader, sentences
from alps.config.overrides import (
    form_problems,
    joint_problems,
    options,
    parse,
    search_path,
    value_texts,
)

Build = Callable[[DictConfig], object]
"""Makes settings of a composed config, or raises a SettingsError."""

Compose = Callable[..., DictConfig | None]
"""Takes overrides; None where Hydra cannot compose them."""

MAX_LETTERS = 600
"""Of one problem; a longer one is cut in its middle."""

MAX_TRIED = 20
"""Values of one axis that are looked at after something else was wrong."""


def refuse(problems: Iterable[str]) -> int:
    """Prints problems as one sentence to stderr; returns the exit code of a refusal."""
    print(f"error: {'; '.join(dict.fromkeys(map(printable, problems)))}", file=sys.stderr)
    return 2


def printable(text: str) -> str:
    """A text on one line: control characters escaped, the middle of a long one left out."""
    if len(text) > MAX_LETTERS:
        text = f"{text[: MAX_LETTERS // 2]} ... {text[-MAX_LETTERS // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split("\n")))


def explain(
    overrides: Sequence[str],
    build: Build,
    error: Exception | None = None,
    config_name: str = "train",
    sweeps: bool = True,
) -> list[str]:
    """Why Hydra could not compose these overrides: all complaints, in the user's words.

    Args:
        overrides: As given on the command line, sweeps included.
        build: What has more to say, once Hydra is content.
        error: What Hydra said, used if nothing better is found.
        config_name: Root config.
        sweeps: Whether several values make a grid here.
    """
    problems: list[str] = []
    with loader() as hydra:
        found = parse(overrides, hydra, problems).values()
        folders = search_path(found)
        said = [(o, list(form_problems(o, hydra, sweeps, bool(folders)))) for o in found]
        problems += [p for _, own in said for p in own]
        problems += joint_problems([o for o, _ in said], config_name)
        bad = {o.key_or_group for o, own in said if own}
        parsed = [o for o, _ in said if o.key_or_group.split(".")[0] not in bad]
        parsed = [o for o in parsed if o.key_or_group not in bad]
        choices = {o.key_or_group: value_texts(o) for o in parsed if _chooses(o, hydra)}
        good = {group: texts[0] for group, texts in choices.items()}
        placed = [o.input_line or "" for o in parsed if o.package and not o.is_delete()]

        @cache
        def composed(*given: str) -> DictConfig | None:
            chosen = [f"{k}={v}" for k, v in good.items() if f"{k}={v}" not in given]
            try:
                return compose(
                    config_name, list(dict.fromkeys([*folders, *chosen, *placed, *given]))
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
    return sentences(error) if error else ["this configuration cannot be composed"]


def _chooses(override: Override, hydra: ConfigLoader) -> bool:
    plain = not override.is_delete() and override.package is None
    return plain and bool(options(override.key_or_group, hydra))


def _key_problems(
    override: Override, choices: dict[str, list[str]], composed: Compose
) -> Iterator[str]:
    """Whether a plain setting exists, under every choice of its group that was asked for."""
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
                hint = did_you_mean(name, [k for k in known if k not in ("name", TARGET)])
                yield f"{key} is not a setting{of}{hint if known else f' of {place}'}"
                break
            opaque = OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name)
            node = None if opaque else node[name]


def _value_problems(
    parsed: list[Override], choices: list[str], composed: Compose, build: Build
) -> list[str]:
    """What `build` has to say about overrides that Hydra accepts, one value of a sweep at a time.

    Args:
        parsed: Overrides that choose nothing, and have no other problem.
        choices: Those of a sweep, but for the first of each group.
        composed: Composes the first choices with others.
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
    swept = [f"{o.get_key_element()}={v}" for o in sweeps for v in value_texts(o)[:MAX_TRIED]]
    problems: list[str] = []
    for extra in ((), *((s,) for s in [*choices, *swept])):
        config = composed(*accepted, *extra)
        try:
            if config is not None:
                build(config)
        except SettingsError as error:
            problems += error.problems
        except Exception as error:
            problems.append(first_line(error))
    return problems


def without_repeats(problems: list[str]) -> list[str]:
    """A problem that every point of a sweep has is told once."""
    seen: dict[str, str] = {}
    for problem in problems:
        seen.setdefault(re.sub(r"^point \[.*?\]: ", "", problem), problem)
    return list(seen.values())
