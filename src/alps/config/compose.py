"""Hydra's composition without its application: where `conf` is, what a grid expands to."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from alps.base.serialization import SettingsError

VERSION_BASE = "1.3"


def conf_dir() -> Path:
    """`alps/conf` in an installed wheel, else `conf` beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def command_line(arguments: Sequence[str]) -> Namespace:
    """Flags of Hydra's application, and the `overrides` among the arguments.

    Raises:
        SettingsError: If it has no such flag.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        hint = "settings are written name=value, without dashes"
        raise SettingsError([f"{message}: {hint}; flags are those of --hydra-help"])

    parser.error = refuse
    return parser.parse_intermixed_args(list(arguments))


@contextmanager
def loader(folder: Path | None = None) -> Iterator[ConfigLoader]:
    """Hydra's loader of `conf`, or of another folder; `hydra.compose` works inside the block."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(
        str(folder or conf_dir()), version_base=VERSION_BASE, job_name="train"
    ):
        yield GlobalHydra.instance().config_loader()


def foreign_root(config_name: str, config_dir: str | None) -> str | None:
    """Why a root config describes no run, in a sentence; or None.

    Without the callback of `conf/train.yaml` nothing would be checked before a folder is made.

    Args:
        config_name: Of `--config-name`.
        config_dir: Of `--config-dir`.
    """
    folder = Path(config_dir or conf_dir()).resolve()
    own = (folder / f"{config_name.removesuffix('.yaml')}.yaml").exists()
    with loader(folder if own else None):
        try:
            ours = [f"hydra.searchpath=['file://{conf_dir()}']"]
            config = compose(config_name, ours, return_hydra_config=True)
        except Exception:  # Hydra's application says so, too
            return None
        if "preflight" in (config.hydra.callbacks or {}):
            return None
    return f"--config-name={config_name} describes no run: its defaults must begin with train"


def paths_told(overrides: Sequence[str]) -> list[str]:
    """Short forms as Hydra takes them: `model=<folder or hub id>` is `model.path=...`.

    No choice has a slash. `evals=[...]` is as `benchmarks_by_name` has it.
    """
    found = []
    for override in benchmarks_by_name(overrides):
        name, _, value = override.partition("=")
        place = name == "model" and "," not in value and ("/" in value or os.path.isdir(value))
        known = os.path.exists(conf_dir() / "model" / f"{value}.yaml")
        found.append(f"model.path={value}" if place and not known else override)
    return found


def benchmarks_by_name(overrides: Sequence[str]) -> list[str]:
    """`evals=[gsm8k,mmlu]` as no set and these benchmarks; `evals=gsm8k` likewise, if no set is."""
    found = []
    for override in overrides:
        name, _, value = override.partition("=")
        names = list(dict.fromkeys(re.findall(r"[\w-]+", value)))
        in_list = re.fullmatch(r"""\[[\w\s,'"-]*\]""", value)
        sets, benchmarks = conf_dir() / "evals", conf_dir() / "evals" / "benchmark"
        alone = names == [value] and not os.path.exists(sets / f"{value}.yaml")
        known = alone and os.path.exists(benchmarks / f"{value}.yaml")
        if name == "evals" and (in_list or known):
            title = "+".join(names) or "none"
            found += ["evals=none", f"evals.name={title}"]
            one = "+evals/benchmark@evals.benchmarks"
            found += [f"{one}.{each}={each}" for each in names]
        else:
            found.append(override)
    return found


def grid_problems(overrides: Sequence[str]) -> list[str]:
    """Sentences about sweeps that Hydra would do otherwise than they are meant, or not at all."""
    given = [tuple(o.lstrip("+").split("=", 1)) for o in overrides if "=" in o]
    problems = []
    experiments = [value for name, value in given if name == "experiment"]
    if len(experiments) > 1 or "," in "".join(experiments):
        problems.append(f"experiment={','.join(experiments)}: one command runs one experiment")
    for name, value in given:
        if "," not in value or value[0] in "'\"[":
            continue
        if name == "scale":
            problems.append(f"scale={value}: one command has one scale")
        if name.startswith("grid."):
            problems.append(f"{name}={value} is no axis: set the axis itself, as in method=alps,kl")
    return problems


def expand(config: DictConfig, loader: ConfigLoader) -> list[tuple[str, DictConfig]]:
    """The points of a grid, each with the overrides that make it one.

    Args:
        config: The config Hydra composed for a multirun.
        loader: Hydra's own.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    grid = [f"{k}={v}" for k, v in (config.hydra.sweeper.params or {}).items()]
    arguments = [*grid, *config.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    points = BasicSweeper.split_arguments(parsed, None)[0]
    return [(", ".join(p), loader.load_sweep_config(config, list(p))) for p in points]


def plain_config(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's own part, as plain values.

    Raises:
        SettingsError: If an interpolation cannot be resolved, or a value is missing (`???`).
    """
    names = [str(k) for k in config if k != "hydra"]
    masked = OmegaConf.masked_copy(config, names)
    masked._set_parent(config._get_parent())
    try:
        plain = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingsError(sentences(error)) from None
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def sentences(error: Exception) -> list[str]:
    """What is wrong, one problem each."""
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return [f"{error.full_key} cannot be resolved ({first_line(error)})"]
    if isinstance(error, OSError) and error.filename:
        return [f"{error.filename} cannot be used ({error.strerror})"]
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        place = f"line {error.problem_mark.line + 1} of {error.problem_mark.name}"
        return [f"{place} cannot be read as YAML ({error.problem})"]
    said = first_line(error.__cause__) if error.__cause__ else ""
    cause = f" ({said})" if said not in str(error) else ""
    return getattr(error, "problems", [f"{first_line(error)}{cause}"])


def first_line(error: BaseException) -> str:
    """Of what an exception says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
