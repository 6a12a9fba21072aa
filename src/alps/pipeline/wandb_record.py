"""Completes the W&B runs of finished trainings, base evaluations and localizations."""

from __future__ import annotations

from pathlib import Path

from alps.report.heads.heat_map import draw_heat_map
from alps.runs.completion import evaluation_folders
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Logger
from alps.settings.run import Run
from alps.tracking.record import base_record, localization_record, report_record, run_record
from alps.tracking.send import send_guarded


def track_run(run: Run) -> None:
    """Result, head set and tables of a training, beside the curves that it has logged."""
    if "wandb" in run.logger.names:
        send_guarded(lambda: run_record(RunFolder(run.folder), run.logger), draw_heat_map)


def track_base(run: Run) -> None:
    """The evaluations of a run's base model."""
    if "wandb" in run.logger.names:
        for place in evaluation_folders(run, trained=False):
            path = place.folder.path
            send_guarded(lambda path=path: base_record(path, run.logger), draw_heat_map)


def track_localization(folder: Path, logger: Logger) -> None:
    """Scores of a pair of checkpoints."""
    if "wandb" in logger.names:
        send_guarded(lambda: localization_record(folder, logger), draw_heat_map)


def track_report(folder: Path, logger: Logger) -> None:
    """Table and figures of an experiment."""
    if "wandb" in logger.names:
        send_guarded(lambda: report_record(folder, logger), draw_heat_map)
