"""A W&B run: its identity, whether it is recorded offline, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import sleep
from typing import Any, Literal

from alps.base.serialization import to_dict
from alps.settings.infrastructure import Logger
from alps.settings.run import Run

MAX_TAG = 64
"""Letters of a tag that W&B accepts."""

FINISH_SECONDS = 120.0
"""Longest wait for uploads at the end of a W&B run."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What names and describes a W&B run.

    Attributes:
        key: Its id and name: the key of a run, or the name of a folder of outputs.
        job_type: Stage: `train`, `evaluate`, `localize` or `report`.
        tags: Method, model and data.
        config: Settings.
        logger: Project, entity and group.
    """

    key: str
    job_type: Literal["train", "evaluate", "localize", "report"]
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    logger: Logger


def run_identity(run: Run) -> Identity:
    """Identity of a training."""
    return Identity(
        key=run.key,
        job_type="train",
        tags=tuple(dict.fromkeys((run.method.name, run.model.name, run.data.name))),
        config=to_dict(run),
        logger=run.logger,
    )


def session_mode() -> Literal["online", "offline", "disabled"]:
    """How W&B works here: as `WANDB_MODE` or its settings say, offline without credentials.

    W&B itself is asked for credentials: their host and file depend on its version and settings.
    """
    import wandb

    mode = wandb.setup().settings.mode
    if mode == "disabled":
        return "disabled"
    if mode in ("offline", "dryrun"):
        return "offline"
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def open_session(identity: Identity, folder: Path, *, live: bool) -> Any:
    """Opens the W&B run, or goes on with it.

    Args:
        identity: Its identity.
        folder: Folder that receives `wandb/`.
        live: Whether a training logs into it; else there is neither console nor system metrics.
    """
    import wandb

    chosen = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
    while any(folder.glob(f"wandb/*run-{datetime.now():%Y%m%d_%H%M%S}-*")):
        sleep(0.1)  # W&B names folders by the second, and would write into an earlier one
    quiet: dict[str, Any] = {} if live else {"console": "off", "x_disable_stats": True}
    return wandb.init(
        project=identity.logger.project,
        entity=identity.logger.entity,
        group=identity.logger.group,
        id=identity.key,
        name=identity.key,
        job_type=identity.job_type,
        tags=[tag[:MAX_TAG] for tag in identity.tags if tag],
        resume="allow",
        # None keeps W&B's own setting; without credentials W&B would ask for a key.
        mode=None if chosen or session_mode() == "online" else "offline",
        dir=folder,
        config=dict(identity.config),
        reinit="create_new",  # a run of the surrounding program stays open
        settings=wandb.Settings(finish_timeout=FINISH_SECONDS, finish_timeout_raises=True, **quiet),
    )
