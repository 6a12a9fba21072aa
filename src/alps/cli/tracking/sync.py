"""`alps sync`: W&B runs from the files of trainings, evaluations, localizations and reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alps.base.serialization import SettingsError
from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import error_sentence, exit_on_bad_input

if TYPE_CHECKING:
    from alps.runs.folder import RunFolder
    from alps.settings.infrastructure import Logger
    from alps.tracking.record import Record

OWN = ("output_dir", "project", "entity", "group", "force")


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """Settings of `alps sync`.

    Attributes:
        output_dir: Folder of the outputs.
        project: W&B project, or null for that of each run.
        entity: W&B team or user, or null for that of each run.
        group: Group of the runs, or null for that of each run.
        force: Send everything again, whatever was sent before.
    """

    output_dir: str = "outputs"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Item:
    """A folder to send: its line for filters, and how its record is made."""

    line: dict[str, str]
    make: Callable[[], Record]


def sync(arguments: Sequence[str]) -> None:
    """Uploads runs to W&B, or repairs them.

    The files of a run are the truth: metrics.csv, result.json, heads.json. Runs made without W&B
    are sent, too; what W&B has already is not sent again. Without a key, or with
    WANDB_MODE=offline, runs are recorded in their folders. Trainings, evaluations of base models,
    localizations and reports are runs. Each FILTER is as in alps runs: a word that a run's line
    contains, or name=value for one of its columns.
    """
    values, filters = split_settings(arguments, OWN)
    failed = False
    with exit_on_bad_input():
        settings = _settings(values)
        from alps.report.runs.listing import matches

        items = [i for i in _items(settings) if matches(i.line, filters)]
        if not items:
            wanted = f" match {' '.join(filters)}" if filters else ""
            print(f"no runs in {settings.output_dir}{wanted}")
            return
    for item in items:
        text, ok = _send(item, settings.force)
        failed |= not ok
        print(f"{item.line['run']}: {text}", flush=True)
    sys.exit(int(failed))


def _settings(values: dict[str, str]) -> SyncSettings:
    """Settings of the command.

    Raises:
        SettingsError: All problems together.
    """
    from alps.settings.infrastructure import Logger

    problems = list(Logger(name="wandb").problems())
    if values.get("force", "false") not in ("true", "false"):
        problems.append(f"force must be true or false, got {values['force']}")
    if problems:
        raise SettingsError(problems)
    texts = {n: None if v in ("", "null") else v for n, v in values.items() if n != "force"}
    return SyncSettings(
        force=values.get("force") == "true",
        **{**texts, "output_dir": texts.get("output_dir") or "outputs"},  # pyright: ignore[reportArgumentType]
    )


def _items(settings: SyncSettings) -> Iterator[Item]:
    """All folders that can be runs."""
    from alps.report.runs.listing import describe
    from alps.runs.folder import list_runs
    from alps.settings.infrastructure import Logger
    from alps.tracking.record import base_record, localization_record, report_record

    output_dir = Path(settings.output_dir)
    for folder in list_runs(output_dir):
        yield Item(describe(folder), lambda folder=folder: _run_record(folder, settings))
    logger = _with_settings(Logger(name="wandb"), settings)
    for state, pattern, record in (
        ("evaluation", "evals/*/result.json", base_record),
        ("localization", "scores/*/heads-*.json", localization_record),
        ("report", "reports/*/results.csv", report_record),
    ):
        for folder in sorted({path.parent for path in output_dir.glob(pattern)}):
            line = {"run": folder.name, "state": state}
            yield Item(line, lambda f=folder, make=record: make(f, logger))


def _run_record(folder: RunFolder, settings: SyncSettings) -> Record:
    """The record of a training.

    Raises:
        ValueError: If a process is working on it.
    """
    from alps.tracking.record import run_record

    if folder.is_locked():
        raise ValueError("a process is working on it; repeat this when it has ended")
    return run_record(folder, _with_settings(folder.read_run().logger, settings))


def _with_settings(logger: Logger, settings: SyncSettings) -> Logger:
    changes = {n: getattr(settings, n) for n in ("project", "entity", "group")}
    return replace(logger, **{n: v for n, v in changes.items() if v is not None})


def _send(item: Item, force: bool) -> tuple[str, bool]:
    """What was done, and whether it succeeded."""
    from alps.report.heads.heat_map import draw_heat_map
    from alps.tracking.send import send

    try:
        return send(item.make(), draw_heat_map, force=force), True
    except Exception as error:  # the other runs go on
        return f"failed: {error_sentence(error)}", False


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings

    return {"Settings": dataclass_settings(SyncSettings)}


command = SettingsCommand(
    sync,
    sections,
    (
        "alps sync                        # all runs",
        "alps sync method=alps seed=0",
        "alps sync project=table2 entity=team force=true",
    ),
    metavar="[FILTER]...",
)
