"""Hydra callback that builds and checks every run before any folder exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from alps.base.atomic import can_hold_files
from alps.base.serialization import SettingsError
from alps.config.build import build, explain
from alps.config.compose import expand
from alps.config.errors import exit_with_errors, without_repeats
from alps.config.hydra_internals import instantiate_launcher
from alps.config.run_checks import check_runs, for_each
from alps.config.run_plan import current_plan
from alps.settings.run import Run

LOCAL_LAUNCHERS = ("alps_local.LocalLauncher", "basic_launcher.BasicLauncher")
"""Launchers of this machine, of which a single run needs none."""


class Preflight(Callback):
    """Builds and validates every point before any folder is made or any point runs.

    Hydra turns an Exception in a callback into a warning and goes on; only SystemExit ends it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Checks a single run; Hydra itself would ignore a launcher here."""
        with _exit_on_error(config):
            if not config.hydra.launcher._target_.endswith(LOCAL_LAUNCHERS):
                raise SettingsError(["hydra/launcher is for sweeps: add -m"])
            _check_hydra(config, config.hydra.run.dir)
            _check_and_plan([("", config)])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Checks a sweep; its table is written beside Hydra's own files."""
        with _exit_on_error(config):
            _check_hydra(config, config.hydra.sweep.dir)
            current_plan().sweep_dir = Path(config.hydra.sweep.dir)
            current_plan().fail_fast = bool(config.fail_fast)
            hydra = GlobalHydra.instance().config_loader()
            launcher = instantiate_launcher(config, hydra, build)
            if "basic_sweeper" not in config.hydra.sweeper._target_:
                return  # other sweepers draw their points later; each is validated as it comes
            points = [(f"point [{name}]: ", point) for name, point in expand(config, hydra)]
            if not points:
                raise SettingsError(["this grid has no points"])
            _check_and_plan(points, getattr(launcher, "problems", lambda runs: ()))


@contextmanager
def _exit_on_error(config: DictConfig) -> Iterator[None]:
    """Ends the program with one sentence on any exception."""
    try:
        yield
    except Exception as error:
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        problems = getattr(error, "problems", None) or explain(overrides, error)
        exit_with_errors(without_repeats(problems))


def _check_and_plan(
    points: Sequence[tuple[str, DictConfig]],
    launcher_problems: Callable[[Sequence[Run]], Iterable[str]] = lambda runs: (),
) -> None:
    """Adds all points to the plan; cheap checks of all come before expensive ones of any.

    Args:
        points: Prefix of a point's messages, and its config.
        launcher_problems: Sentences about runs that the launcher cannot start.
    """
    runs: list[Run] = []
    for_each(points, lambda config: runs.append(_build_point(config)))
    if problems := list(launcher_problems(runs)):
        raise SettingsError(problems)
    names = [name for name, _ in points]
    check_runs(names, runs)
    for_each(zip(names, runs, strict=True), _check_devices)
    plan = current_plan()
    plan.add(runs, points[0][1].weights)
    plan.complete = True
    plan.meet_nodes()


def _check_hydra(config: DictConfig, folder: Any) -> None:
    """Raises on settings of Hydra's own that would fail after it has made a folder."""
    notes = Path(str(folder)) / (config.hydra.output_subdir or "")
    if not can_hold_files(Path(str(config.output_dir))):
        return  # `RunCheck.check_files` reports it
    if not can_hold_files(notes):
        raise SettingsError([f"Hydra's folder {notes} cannot be written to: name another one"])
    trial = deepcopy(config)
    with TemporaryDirectory() as temporary, read_write(trial), open_dict(trial):
        trial.hydra.runtime.output_dir = temporary
        configure_log(trial.hydra.job_logging, trial.hydra.verbose)
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)  # as it was


def _build_point(config: DictConfig) -> Run:
    if config.hydra.job.chdir:
        raise SettingsError(
            ["hydra.job.chdir=true would change what relative paths mean in the middle of a run: "
             "leave it out; hydra.run.dir moves Hydra's own files"]
        )  # fmt: skip
    return build(config)


def _check_devices(run: Run) -> None:
    from alps.launch.devices import device_problems

    if problems := list(device_problems(run)):
        raise SettingsError(problems)
