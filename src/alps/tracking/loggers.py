"""Lightning loggers behind `logger=wandb|tensorboard|trackio`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from alps.base.serialization import TARGET, to_dict
from alps.settings.run import Run
from alps.tracking.session import open_session, run_identity

SUCCESS = "success"
"""Status of a training that ended well, in Lightning's words."""


class WandbStepLogger(WandbLogger):
    """Lightning's logger of W&B in two of our own words.

    It gives W&B the optimizer step as its step. Lightning's counts calls, so that a resumed
    training would log the steps that it repeats twice. And it finishes the W&B run.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs the metrics of an optimizer step."""
        self.experiment.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        """Finishes the W&B run; a failed one has another exit code."""
        self.experiment.finish(exit_code=0 if status == SUCCESS else 1)


class TrackioLogger(Logger):
    """Lightning's interface to trackio, a local database; it writes on threads of its own."""

    def __init__(self, project: str, key: str, group: str | None, config: dict[str, Any]):
        """Opens the run of that name, or goes on with it."""
        import trackio  # pyright: ignore[reportMissingImports] - optional

        self._project, self._key = project, key
        self._run = trackio.init(
            project=project, name=key, group=group, config=config, resume="allow", embed=False
        )

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The key of the run."""
        return self._key

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """The settings were given when the run was opened."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs the metrics of an optimizer step."""
        self._run.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        """Finishes the run."""
        self._run.finish()


def open_wandb(run: Run) -> Logger:
    """W&B; `alps.tracking.send` adds result, heads and tables when the run has ended."""
    session = open_session(run_identity(run), run.folder, live=True)
    return WandbStepLogger(experiment=session, project=run.logger.project)


def open_tensorboard(run: Run) -> Logger:
    """Event files in the run's folder, with the settings for the HParams tab."""
    logger = TensorBoardLogger(run.folder, name="", version="tensorboard", default_hp_metric=False)
    logger.log_hyperparams(flat_settings(run))
    return logger


def open_trackio(run: Run) -> Logger:
    """A local database; `TRACKIO_DIR` and `TRACKIO_SPACE_ID` hold."""
    return TrackioLogger(run.logger.project, run.key, run.logger.group, flat_settings(run))


OPENERS: Mapping[str, Callable[[Run], Logger]] = {
    "wandb": open_wandb,
    "tensorboard": open_tensorboard,
    "trackio": open_trackio,
}
"""Logger -> function that opens it."""


def flat_settings(run: Run) -> dict[str, Any]:
    """Settings of a run as `method.ratio`: 0.1, without empty ones and lists."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                visit(f"{prefix}{name}.", value)
            elif isinstance(value, bool | int | float | str) and name != TARGET:
                flat[f"{prefix}{name}"] = value

    visit("", to_dict(run))
    return flat
