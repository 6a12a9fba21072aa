"""Settings of the launcher that a command line selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from alps.base.serialization import SettingsError, did_you_mean, from_dict
from alps.config.build import register_resolvers
from alps.config.compose import loader
from alps.config.errors import error_messages
from alps.config.overrides import check_overrides
from alps.launch.slurm.settings import Slurm

SLURM = "alps_slurm.SlurmLauncher"


def job_settings(overrides: Sequence[str]) -> Slurm:
    """Resources of jobs that a command submits: `hydra/launcher=slurm` unless another is named.

    Args:
        overrides: Those of the launcher.

    Raises:
        SettingsError: All problems together.
    """
    named = any(override.startswith("hydra/launcher=") for override in overrides)
    names = [f.name for f in fields(Slurm)]
    typed = [o.partition("=")[0].removeprefix("hydra.launcher.").split(".")[0] for o in overrides]
    wrong = [n for n in typed if n not in names and not n.lstrip("+~").startswith("hydra")]
    if wrong:
        raise SettingsError(
            f"hydra.launcher.{name} is not a setting{did_you_mean(name, names)}" for name in wrong
        )
    settings = slurm_settings([*([] if named else ["hydra/launcher=slurm"]), *overrides])
    if settings is None:
        raise SettingsError(["hydra/launcher has to be slurm, or a file that builds on it"])
    return settings


def slurm_settings(overrides: Sequence[str]) -> Slurm | None:
    """Settings of `hydra/launcher=slurm`, or None if another launcher is selected.

    Args:
        overrides: As on the command line.

    Raises:
        SettingsError: All problems together.
    """
    own = [o for o in overrides if o.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))]
    if not own:
        return None
    register_resolvers()
    try:
        with loader() as hydra:
            check_overrides(own, hydra, "train")
            node = compose("train", own, return_hydra_config=True).hydra.launcher
            settings: Any = OmegaConf.to_container(node, resolve=True)
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(error_messages(error)) from None
    if not str(settings.pop("_target_", "")).endswith(SLURM):
        return None
    return from_dict(settings, Slurm, "hydra.launcher")
