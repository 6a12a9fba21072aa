"""Every private name of Hydra and OmegaConf that alps uses.

`pyproject.toml` pins hydra-core to 1.3 and omegaconf to 2.3, whose internals these are: check this
file before another version is allowed.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import islice
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["BasicLauncher"]  # the others are defined here

MAX_POINTS = 10_000
"""Points of a grid; more are a typing error."""


def flag_parser() -> ArgumentParser:
    """Parser of the flags of Hydra's application (`--cfg`, `--multirun`, ...)."""
    return get_args_parser()


def sweep_points(overrides: Sequence[str], loader: ConfigLoader) -> list[list[str]]:
    """Overrides of each point of a grid, as the basic sweeper orders them."""
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    return [list(point) for point in BasicSweeper.split_arguments(parsed, None)[0]]


def instantiate_launcher(
    config: DictConfig, loader: ConfigLoader, task_function: TaskFunction
) -> Launcher:
    """The launcher of a sweep; its `setup` raises if it cannot launch anything."""
    context: Any = HydraContext(config_loader=loader, callbacks=Callbacks())
    return Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task_function, config=config
    )


def group_options(group: str, loader: ConfigLoader) -> list[str]:
    """Choices of a config group; the loader's own method copies its sources first."""
    return _repository(loader).get_group_options(group)


def sets_value(override: Override, loader: ConfigLoader) -> bool:
    """Whether an override sets a value of the config that Hydra composed of the choices."""
    return not _repository(loader).group_exists(override.key_or_group)


def set_values(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Applies overrides to a config that Hydra composed, as Hydra does after composing it."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)


def _repository(loader: ConfigLoader) -> IConfigRepository:
    assert isinstance(loader, ConfigLoaderImpl)
    return loader.repository


def without_hydra(config: DictConfig) -> DictConfig:
    """A config without its `hydra` node, whose interpolations still resolve."""
    masked = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
    masked._set_parent(config._get_parent())
    return masked


def override_values(override: Override) -> list[Any]:
    """Values of an override; of a sweep at most one more than `MAX_POINTS`, of an interval none."""
    return [Override._convert_value(v) for v in _elements(override)]


def override_texts(override: Override) -> list[str]:
    """The same values as they are written behind `=`."""
    return [Override._get_value_element_as_str(v) for v in _elements(override)]


def _elements(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override._value]
    if override.is_interval_sweep():
        return []
    return list(islice(override.sweep_iterator(), MAX_POINTS + 1))
