"""What Hydra's application calls before it makes a folder: every point is built and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from alps.base.atomic import can_hold_files
from alps.base.serialization import SettingsError
from alps.config.build import build, explain
from alps.config.compose import expand, sentences
from alps.config.errors import refuse, without_repeats
from alps.settings.run import Run, Weights


class Preflight(Callback):
    """Builds and validates every point before any folder is made or any point runs.

    Hydra turns an Exception in a callback into a warning and goes on; only SystemExit ends it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One run, here: Hydra would not tell a launcher that it has nothing to launch."""
        with _ending(config):
            if "basic_launcher" not in config.hydra.launcher._target_:
                raise SettingsError(["hydra/launcher is for sweeps: add -m"])
            _check_hydra(config, config.hydra.run.dir)
            _refuse_or_plan([("", config)])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A sweep; its table belongs beside Hydra's own notes about it."""
        with _ending(config):
            _check_hydra(config, config.hydra.sweep.dir)
            planned.sweep_dir = Path(config.hydra.sweep.dir)
            hydra = GlobalHydra.instance().config_loader()
            context: Any = HydraContext(config_loader=hydra, callbacks=Callbacks())
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=build, config=config
            )  # refuses what it cannot do
            if "basic_sweeper" not in config.hydra.sweeper._target_:
                return  # other sweepers draw their points later; each is validated as it comes
            points = [(f"point [{name}]: ", point) for name, point in expand(config, hydra)]
            if not points:
                raise SettingsError(["this grid has no points"])
            _refuse_or_plan(points, getattr(launcher, "problems", lambda runs: ()))


@contextmanager
def _ending(config: DictConfig) -> Iterator[None]:
    """Ends the program with a sentence, whatever is wrong."""
    try:
        yield
    except Exception as error:
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        told = getattr(error, "problems", None) or explain(overrides, error)
        raise SystemExit(refuse(without_repeats(told))) from None


class Planned:
    """What this process set out to do; read by the command line as it goes and when it is done."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.runs: list[Run] = []
        self.complete = False
        """Whether no sweeper adds to `runs` later."""
        self.sweep_dir: Path | None = None
        self.weights: Weights = "keep"
        self.spared: set[str] = set()
        self.started = False
        """Whether a run has begun; what is wrong before is the settings' fault."""

    def add(self, runs: Sequence[Run], weights: Weights) -> None:
        """Plans runs under a policy for their weights."""
        from alps.pipeline.retention import already_trained_task_models

        self.runs += runs
        self.weights = weights
        self.spared |= already_trained_task_models(runs)

    def reduce(self) -> None:
        """Gives disk back as the policy says; what a sweeper may still ask for stays."""
        from alps.pipeline.retention import reduce_unneeded

        reduce_unneeded(self.runs, self.weights, self.spared)


planned = Planned()


def _refuse_or_plan(
    points: Sequence[tuple[str, DictConfig]],
    launcher_problems: Callable[[Sequence[Run]], Iterable[str]] = lambda runs: (),
) -> None:
    """Cheap checks of all points come before dear ones of any.

    Args:
        points: What names each point in messages, and its config.
        launcher_problems: Sentences about runs that the launcher cannot start.
    """
    from alps.pipeline.preflight import check_files, check_model

    runs: list[Run] = []
    _each(points, lambda config: runs.append(_point(config)))
    if problems := list(launcher_problems(runs)):
        raise SettingsError(problems)
    named = [(name, run) for (name, _), run in zip(points, runs, strict=True)]
    _each(named, check_files)
    _each(named, check_model)
    planned.add(runs, points[0][1].weights)
    planned.complete = True


def _check_hydra(config: DictConfig, folder: Any) -> None:
    """Refuses settings of Hydra's own that would fail after it has made a folder."""
    place = Path(str(folder)) / (config.hydra.output_subdir or "")
    if not can_hold_files(Path(str(config.output_dir))):
        return  # `check_files` says so
    if not can_hold_files(place):
        raise SettingsError([f"Hydra's folder {place} cannot be written to: name another one"])
    trial = deepcopy(config)
    with TemporaryDirectory() as temporary, read_write(trial), open_dict(trial):
        trial.hydra.runtime.output_dir = temporary
        configure_log(trial.hydra.job_logging, trial.hydra.verbose)
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)  # as it was


def _point(config: DictConfig) -> Run:
    if config.hydra.job.chdir:
        raise SettingsError(
            ["hydra.job.chdir=true would change what relative paths mean in the middle of a run: "
             "leave it out; hydra.run.dir moves Hydra's own files"]
        )  # fmt: skip
    return build(config)


def _each(named: Iterable[tuple[str, Any]], step: Callable[[Any], object]) -> None:
    """Does a step for every point, and raises the problems of all together."""
    problems: list[str] = []
    for name, item in named:
        try:
            step(item)
        except Exception as error:
            problems += [f"{name}{p}" for p in sentences(error)]
    if problems:
        raise SettingsError(without_repeats(problems))
