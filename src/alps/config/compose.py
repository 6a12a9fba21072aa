"""Hydra's composition without its application: `conf`, command-line shorthand, grid expansion."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.base.serialization import SettingsError
from alps.config.conf_dir import conf_dir
from alps.config.errors import error_messages
from alps.config.hydra_internals import (
    flag_parser,
    set_values,
    sets_value,
    sweep_points,
    without_hydra,
)

VERSION_BASE = "1.3"


def command_line(arguments: Sequence[str]) -> Namespace:
    """Flags of Hydra's application and, as `overrides`, the other arguments.

    Raises:
        SettingsError: If Hydra has no such flag.
    """
    parser = flag_parser()

    def fail(message: str) -> NoReturn:
        hint = "settings are written name=value, without dashes"
        raise SettingsError([f"{message}: {hint}; flags are those of --hydra-help"])

    parser.error = fail
    return parser.parse_intermixed_args(list(arguments))


@contextmanager
def loader(folder: Path | None = None) -> Iterator[ConfigLoader]:
    """Hydra's loader of `conf` or of another folder; `hydra.compose` works inside the block."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(
        str(folder or conf_dir()), version_base=VERSION_BASE, job_name="train"
    ):
        yield GlobalHydra.instance().config_loader()


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """`hydra.compose`, which composes the same choices of groups once in a process.

    Values are then set in a copy, as Hydra sets them. To be called inside of `loader()`.

    Args:
        config_name: Root config.
        overrides: As on the command line.
    """
    hydra = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [o for o in parsed if sets_value(o, hydra)]
    choices = [o for o in parsed if o not in values]
    if (
        any("hydra" in text for text in overrides)  # its node is not in the shared config
        or any(o.is_sweep_override() for o in parsed)
        or any(isinstance(o.value(), dict) for o in choices)
    ):
        return compose(config_name, list(overrides))
    config = deepcopy(_of_choices(_files(), config_name, *(o.input_line or "" for o in choices)))
    set_values(config, values)
    return config


@lru_cache(maxsize=64)
def _of_choices(files: frozenset[tuple[str, int, int]], name: str, *choices: str) -> DictConfig:
    """Root config with these choices of groups, as long as the files of `conf` stay as they are."""
    return compose(name, list(choices))


def _files() -> frozenset[tuple[str, int, int]]:
    """Path, time of change and size of each file of `conf`."""
    files = (entry for folder, *_ in os.walk(conf_dir()) for entry in os.scandir(folder))
    found = ((entry.path, entry.stat()) for entry in files)
    return frozenset((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)


def root_config_error(config_name: str, config_dir: str | None) -> str | None:
    """Sentence about a root config that describes no run, or None.

    Without the callback of `conf/train.yaml` nothing would be checked before a folder is made.

    Args:
        config_name: Value of `--config-name`.
        config_dir: Value of `--config-dir`.
    """
    folder = Path(config_dir or conf_dir()).resolve()
    own = (folder / f"{config_name.removesuffix('.yaml')}.yaml").exists()
    with loader(folder if own else None):
        try:
            ours = [f"hydra.searchpath=['file://{conf_dir()}']"]
            config = compose(config_name, ours, return_hydra_config=True)
        except Exception:  # Hydra's application reports it, too
            return None
        if "preflight" in (config.hydra.callbacks or {}):
            return None
    return f"--config-name={config_name} describes no run: its defaults must begin with train"


def expand_shorthand(overrides: Sequence[str]) -> list[str]:
    """Overrides with shorthand expanded: `model=<folder or hub id>` becomes `model.path=...`.

    No choice has a slash in its name. For `evals=[...]` see `expand_benchmarks`, for
    `logger=[...]` and the group of an experiment's runs `expand_loggers`.
    """
    expanded = []
    for override in expand_loggers(expand_benchmarks(overrides)):
        name, _, value = override.partition("=")
        path = name == "model" and "," not in value and ("/" in value or os.path.isdir(value))
        known = os.path.exists(conf_dir() / "model" / f"{value}.yaml")
        expanded.append(f"model.path={value}" if path and not known else override)
    return expanded


def expand_benchmarks(overrides: Sequence[str]) -> list[str]:
    """Replaces `evals=[gsm8k,mmlu]`, and `evals=gsm8k` where no set has that name.

    Both become the empty set and one added benchmark for each name.
    """
    expanded = []
    for override in overrides:
        name, _, value = override.partition("=")
        names = list(dict.fromkeys(re.findall(r"[\w-]+", value)))
        in_list = re.fullmatch(r"""\[[\w\s,'"-]*\]""", value)
        sets, benchmarks = conf_dir() / "evals", conf_dir() / "evals" / "benchmark"
        alone = names == [value] and not os.path.exists(sets / f"{value}.yaml")
        known = alone and os.path.exists(benchmarks / f"{value}.yaml")
        if name == "evals" and (in_list or known):
            title = "+".join(names) or "none"
            expanded += ["evals=none", f"evals.name={title}"]
            one = "+evals/benchmark@evals.benchmarks"
            expanded += [f"{one}.{each}={each}" for each in names]
        else:
            expanded.append(override)
    return expanded


def expand_loggers(overrides: Sequence[str]) -> list[str]:
    """Replaces `logger=[csv,wandb]` by their joint name; runs of an experiment are its group.

    Both are infrastructure: no key changes.
    """
    expanded, experiment = [], ""
    for override in overrides:
        name, _, value = override.partition("=")
        if name == "logger" and re.fullmatch(r"""\[[\w\s,'"-]*\]""", value):
            names = list(dict.fromkeys(re.findall(r"[\w-]+", value)))
            expanded += ["logger=csv", f"logger.name={'+'.join(names) or 'csv'}"]
            continue
        if name == "experiment" and re.fullmatch(r"\w+", value) and value != "null":
            experiment = value
        expanded.append(override)
    grouped = any(o.lstrip("+~").startswith("logger.group") for o in overrides)
    return expanded if grouped or not experiment else [*expanded, f"logger.group={experiment}"]


def grid_problems(overrides: Sequence[str]) -> list[str]:
    """Sentences about sweeps that Hydra would ignore, or expand otherwise than they read."""
    values = [tuple(o.lstrip("+").split("=", 1)) for o in overrides if "=" in o]
    problems = []
    experiments = [value for name, value in values if name == "experiment"]
    if len(experiments) > 1 or "," in "".join(experiments):
        problems.append(f"experiment={','.join(experiments)}: one command runs one experiment")
    for name, value in values:
        if "," not in value or value[0] in "'\"[":
            continue
        if name == "scale":
            problems.append(f"scale={value}: one command has one scale")
        if name.startswith("grid."):
            problems.append(f"{name}={value} is no axis: set the axis itself, as in method=alps,kl")
    return problems


def expand(config: DictConfig, loader: ConfigLoader) -> list[tuple[str, DictConfig]]:
    """Points of a grid: the overrides that distinguish each, and its config.

    Args:
        config: Config that Hydra composed for a multirun.
        loader: Hydra's loader.
    """
    grid = [f"{k}={v}" for k, v in (config.hydra.sweeper.params or {}).items()]
    points = sweep_points([*grid, *config.hydra.overrides.task], loader)
    return [(", ".join(p), loader.load_sweep_config(config, p)) for p in points]


def config_to_dict(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's own node, resolved.

    Raises:
        SettingsError: If an interpolation cannot be resolved, or a value is missing (`???`).
    """
    try:
        settings = OmegaConf.to_container(
            without_hydra(config), resolve=True, throw_on_missing=True
        )
    except OmegaConfBaseException as error:
        raise SettingsError(error_messages(error)) from None
    assert isinstance(settings, dict)
    return {str(k): v for k, v in settings.items()}
