"""`alps evaluate`: benchmarks of a trained run or of base models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.cli.arguments import top_level_name, without_multirun
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_failure

if TYPE_CHECKING:
    from alps.settings.run import Run

FREE_SETTINGS = ("run", "output_dir", "evals", "trainer", "debug")
"""Settings that can be changed beside `run=KEY`."""


def evaluate(arguments: Sequence[str]) -> None:
    """Evaluates a trained run or base models.

    run=KEY names the run. Without it, the base model of the settings is evaluated, with -m the base
    models of a grid.
    """
    from alps.config.errors import error_messages, exit_with_errors
    from alps.pipeline.preflight import RunCheck

    _configure_logging()
    settings = without_multirun(arguments)
    done: dict[str, Any] = {}
    try:
        grid = len(settings) < len(arguments)
        models = _base_models(settings) if grid else [_model(settings)]
        if any(run.trainer.num_nodes > 1 for run, _ in models):
            raise ValueError("trainer.num_nodes is for trainings: evaluate on one node")
        checks = [RunCheck(run, trains=trained, done=done) for run, trained in models]
        for check in checks:
            check.check_files()
        for check in checks:
            check.check_model()
    except (ValueError, OSError) as error:
        exit_with_errors(error_messages(error))
    failed = False
    for run, trained in models:
        try:
            _evaluate(run, trained)
        except SystemExit as ended:  # the error is printed; the others go on
            if ended.code != 1:
                raise
            failed = True
    sys.exit(int(failed))


def _evaluate(run: Run, trained: bool) -> None:
    from alps.evals.run_models import evaluate_base
    from alps.execute import execute
    from alps.launch.ranks import evaluate_on_devices, fit_on_devices
    from alps.pipeline.wandb_record import track_base
    from alps.report.runs.evaluations import print_evaluations
    from alps.runs.completion import evaluation_folders

    with exit_on_failure(run.key if trained else run.base_key):
        evaluate_on_devices(run, trained)
        if trained:
            execute(run, fit_on_devices)
        else:
            evaluate_base(run)
            track_base(run)
    print_evaluations(evaluation_folders(run, trained))


def _base_models(arguments: Sequence[str]) -> list[tuple[Run, bool]]:
    """One run for each base model, data and benchmark set of a grid; none is to be trained."""
    from alps.base.hashing import digest
    from alps.base.serialization import to_dict
    from alps.config.build import runs_of

    unique = {digest([run.base_data_key, to_dict(run.evals)]): run for run in runs_of(arguments)}
    return [(run, False) for run in unique.values()]


def _model(arguments: Sequence[str]) -> tuple[Run, bool]:
    """The run whose model is evaluated, and whether that is its trained model."""
    from dataclasses import replace

    from alps.base.serialization import SettingsError, from_dict
    from alps.config.build import build, build_evals, compose_config
    from alps.config.compose import config_to_dict
    from alps.runs.completion import is_finished
    from alps.runs.folder import find_run
    from alps.settings.infrastructure import Trainer

    composed = compose_config(arguments, "evaluate")
    settings = config_to_dict(composed)
    if settings.get("run") is None:
        return build(composed), False
    if not settings["run"]:
        raise ValueError("run= names no run; `alps runs` lists them")
    _check_only_free_settings(arguments)
    trainer = from_dict(settings["trainer"], Trainer, "trainer")
    folder = find_run(Path(str(settings.get("output_dir"))), str(settings["run"]))
    run = folder.read_run()
    if outdated := folder.outdated_reason(run):
        raise ValueError(outdated)
    problems: list[str] = []
    evals = build_evals(settings["evals"], run.data.task, problems)
    if evals is None:
        raise SettingsError(problems)
    run = replace(run, evals=evals, trainer=trainer)
    if not is_finished(run, folder) and (reason := folder.missing_weights_reason()):
        raise ValueError(reason)
    return run, True


def _check_only_free_settings(arguments: Sequence[str]) -> None:
    """Raises on settings without effect, since the run has its own."""
    fixed = [a for a in arguments if top_level_name(a) not in FREE_SETTINGS]
    if fixed:
        raise ValueError(
            f"{', '.join(fixed)}: the run has settings of its own; beside run=KEY only evals, "
            "trainer and output_dir can be set"
        )


def _configure_logging() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import group_settings, part_settings, root_settings

    return {
        "Settings": [*root_settings("evaluate"), *root_settings("train")],
        "Choices, files of conf/NAME": group_settings(),
        **part_settings("evals", "trainer"),
    }


command = SettingsCommand(
    evaluate,
    sections,
    (
        "alps evaluate model=llama3_2_1b evals=[gsm8k,ifeval]",
        "alps evaluate run=KEY evals.limit=100",
        "alps evaluate -m experiment=table5           # the base models of a table",
    ),
)
