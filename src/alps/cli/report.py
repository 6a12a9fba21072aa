"""`alps report`: the table of an experiment in the paper's layout, and its figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alps.cli.arguments import top_level_name
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input
from alps.cli.report_settings import (
    FORMATS,
    ReportSettings,
    folder_name,
    grid_settings,
    parse_settings,
)

if TYPE_CHECKING:
    from alps.heads.head_set import HeadSet
    from alps.report.outcomes import OutcomeReader
    from alps.report.table.cells import FilledTable
    from alps.report.table.notes import Notes
    from alps.report.table.provenance import Provenance
    from alps.settings.run import Run

KEPT = ("csv", "md")
"""Formats written to `to=FOLDER`, beside the data of the table."""

OWN_DATA = {"table4": "table1", "table12": "table1"}
"""Transfer table -> the table without transfer that Figure 6 shows beside it."""


def report(arguments: Sequence[str]) -> None:
    """Reports experiments: table and figures.

    All settings of alps train are possible, too: they make the grid.
    """
    from alps.config.errors import exit_with_errors
    from alps.runs.result import RunFailed

    with exit_on_bad_input((ValueError, OSError, RunFailed)):
        asked = parse_settings(arguments)
        if asked.from_ is not None:
            unreadable = _published(asked.from_, asked)
        else:
            unreadable = [gap for name in asked.experiment for gap in _report(name, asked)]
    if unreadable:
        exit_with_errors(unreadable)


def _published(folder: Path, asked: ReportSettings) -> list[str]:
    """Reports a published table from its own files."""
    from alps.report.table.published import read_published

    published = read_published(folder)
    output_dir = [s for s in asked.settings if s.startswith("output_dir=")]
    again = replace(asked, settings=(*published.settings, *output_dir))
    return _report(published.experiment, again, published.read)


def _report(experiment: str, asked: ReportSettings, read: OutcomeReader | None = None) -> list[str]:
    """Reports one experiment; returns sentences about unreadable or missing results."""
    from alps.base.atomic import write_text
    from alps.cli.plan import paper_cells
    from alps.config.build import runs_of
    from alps.config.method_styles import method_styles
    from alps.report.run_kind import BASE
    from alps.report.table.cells import fill_table
    from alps.report.table.layout import build_layout
    from alps.report.table.notes import build_notes
    from alps.report.table.provenance import provenance
    from alps.report.table.published import publish
    from alps.report.table.terminal import print_filled

    overrides = [f"experiment={experiment}", *asked.settings]
    runs = runs_of(overrides)
    paper = paper_cells(experiment)
    layout = build_layout(runs, paper, base=not paper, styles=method_styles())
    filled = fill_table(layout, read, asked.correction)
    if not paper:  # shown only if evaluated, as in the table of a sweep
        filled = filled.without_empty(BASE)
    command = shlex.join(["alps", "train", *overrides])
    if all(s.gap and s.gap.trouble == "missing" for each in filled.outcomes for s in each):
        runs_dir = asked.output_dir / "runs"
        return [f"{experiment}: no run of it has finished in {runs_dir}; `{command}` runs them"]
    origin = provenance(filled)
    notes = build_notes(filled, origin, command)
    title = _title(experiment, asked)
    texts = _texts(experiment, asked, command, filled, origin, notes)

    folder = asked.output_dir / "reports" / folder_name(experiment, asked.settings)
    files = [folder / FORMATS[f] for f in asked.format]
    for form, file in zip(asked.format, files, strict=True):
        write_text(file, texts[form]())
    if asked.to is not None:
        files += [asked.to / FORMATS[form] for form in KEPT]
        for form in KEPT:
            write_text(asked.to / FORMATS[form], texts[form]())
        grid = set(grid_settings(asked.settings))
        own = [setting for setting in asked.settings if setting in grid]
        files += publish(experiment, own, filled, asked.to)
    print_filled(title, filled, origin, notes)
    if asked.figures:
        files += _figures(experiment, asked, title, filled, folder)
    if not paper:
        print("no paper.csv stands for this experiment, so that no numbers are compared with it")
    print("files: " + " ".join(map(str, files)))
    if "wandb" in runs[0].logger.names and "csv" not in asked.format:
        print("W&B gets results.csv: add csv to format")
    elif runs[0].logger.names:
        from alps.pipeline.wandb_record import track_report

        track_report(folder, runs[0].logger)
    return [g.reason for g in filled.gaps if g.trouble == "unreadable"]


def _figures(
    experiment: str, asked: ReportSettings, title: str, filled: FilledTable, folder: Path
) -> list[Path]:
    """Draws the figures of an experiment; those of heads need scores, not runs of their own."""
    from alps.cli.plan import paper_cells
    from alps.config.build import runs_of
    from alps.config.method_styles import method_styles
    from alps.report.figure.figures import draw_figures
    from alps.report.heads.sheet import draw_sheet
    from alps.report.table.cells import fill_table
    from alps.report.table.layout import build_layout
    from alps.report.table.paper import HEAD_SHEETS

    own = [s for s in asked.settings if top_level_name(s) not in ("method", "transfer")]
    if experiment in HEAD_SHEETS:
        if asked.from_ is not None:  # a published table has no scores
            return []
        heads = _heads(runs_of([f"experiment={experiment}", *own, "method=alps"]))
        return draw_sheet(title, heads, folder) if heads else []
    beside = None
    if experiment in OWN_DATA and asked.from_ is None:
        table = OWN_DATA[experiment]
        runs = runs_of([f"experiment={table}", *own])
        beside = fill_table(build_layout(runs, paper_cells(table), styles=method_styles()))
    return draw_figures(title, filled, folder, beside)


def _heads(runs: Sequence[Run]) -> dict[tuple[str, str], HeadSet]:
    """Head set of each model and data; of several runs, the first whose task model is trained.

    Raises:
        RunFailed: If a task model's weights were deleted before they were scored, or are damaged.
    """
    from alps.pipeline.head_selection import heads_without_training
    from alps.runs.folder import RunFolder

    sets: dict[tuple[str, str], HeadSet] = {}
    for run in runs:
        task, panel = run.task_run(), (run.model.name, run.data.name)
        chosen = RunFolder(run.folder).heads_path.exists()
        trained = task is None or RunFolder(task.folder).has_weights("drop")
        if panel in sets or not (chosen or trained):
            continue  # the table reports runs that are missing
        if (heads := heads_without_training(run)) is not None:
            sets[panel] = heads
    return sets


def _texts(
    experiment: str,
    asked: ReportSettings,
    command: str,
    filled: FilledTable,
    origin: Provenance,
    notes: Notes,
) -> dict[str, Callable[[], str]]:
    """Functions that write the table, by format."""
    from alps.report.table.formats import csv_text, json_text, markdown
    from alps.report.table.latex import latex

    title, caption = _title(experiment, asked), _title(experiment, asked, " of the ALPS paper")
    return {
        "md": lambda: markdown(title, filled, origin, notes),
        "latex": lambda: latex(caption, experiment, filled, origin, notes),
        "csv": lambda: csv_text(filled, origin),
        "json": lambda: json_text(experiment, command, filled, origin, notes),
        "html": lambda: _page(title, experiment, asked, filled),
    }


def _page(title: str, experiment: str, asked: ReportSettings, filled: FilledTable) -> str:
    """The table's runs as the page of `alps dashboard`."""
    from alps.report.page.content import About, page_content
    from alps.report.page.page_run import page_run
    from alps.report.page.write import page_text

    unique = {o.key: page_run(o) for each in filled.outcomes for o in each}
    place = asked.from_ or asked.output_dir / "runs"
    words = ["from=" + str(asked.from_)] if asked.from_ else [f"experiment={experiment}"]
    words = words if asked.from_ else [*words, *asked.settings]
    about = About(
        title=title,
        source=f"{experiment} in {place.absolute()}",
        command=shlex.join(["alps", "report", *words, "format=html"]),
        styles=filled.layout.styles,
    )
    return page_text(page_content(list(unique.values()), about))


def _title(experiment: str, asked: ReportSettings, whose: str = "") -> str:
    """`Table 3, scale=mini, data=mini_math` of `table3`.

    Args:
        experiment: Its name.
        asked: Settings of the report.
        whose: Follows the number of a table or figure: other papers have the same numbers.
    """
    name = re.sub(r"^(table|figure)(\d+)$", rf"\1 \2{whose}", experiment)
    return ", ".join([name[:1].upper() + name[1:], *grid_settings(asked.settings)])


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import config_choices, dataclass_settings, group_settings

    choices = {"experiment": config_choices("experiment"), "format": FORMATS}
    own = dataclass_settings(ReportSettings, skip=("settings",), choices=choices)
    return {"Settings": [*own, *group_settings("scale")]}


command = SettingsCommand(
    report,
    sections,
    (
        "alps report experiment=table1",
        "alps report experiment=table3 scale=mini format=md,csv figures=false",
        "alps report from=experiments/table3 to=table3",
    ),
)
