"""`alps report`: an experiment's table as the paper has it, and its figures."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from alps.base.hashing import digest
from alps.base.serialization import SettingsError, did_you_mean
from alps.cli.heads import problems_of

if TYPE_CHECKING:
    from alps.heads.head_set import HeadSet
    from alps.report.outcomes import OutcomeReader
    from alps.report.table.cells import FilledTable
    from alps.report.table.comparison import Correction
    from alps.report.table.notes import Notes
    from alps.report.table.provenance import Provenance
    from alps.settings.run import Run

FORMATS = {"md": "table.md", "latex": "table.tex", "csv": "results.csv", "json": "results.json"}
"""Format -> file."""

KEPT = ("csv", "md")
"""What `to=FOLDER` receives, beside what the table is made of."""

OWN = ("format", "to", "from", "figures", "correction", "experiment")
"""Settings of the report itself."""

ELSEWHERE = ("trainer", "logger", "hydra", "weights", "output_dir", "debug")
"""Settings of the grid that say where and how runs are done, and make no other table."""

OWN_DATA = {"table4": "table1", "table12": "table1"}
"""Table of transfer -> that of the rows' own data, which Figure 6 puts beside it."""

LONGEST = 60
"""Letters of a folder's name; a longer one is cut."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks for.

    Attributes:
        experiments: Names of experiments.
        settings: Of their grids; `output_dir` too.
        output_dir: Where runs and reports live.
        formats: To be written.
        figures: Whether figures are drawn.
        correction: For the number of comparisons with Random.
        to: Folder that receives the table and what it is made of, or None.
        published: Folder of a published table that is made again, or None.
    """

    experiments: tuple[str, ...]
    settings: tuple[str, ...]
    output_dir: Path
    formats: tuple[str, ...] = tuple(FORMATS)
    figures: bool = True
    correction: Correction = "none"
    to: Path | None = None
    published: Path | None = None


def report(arguments: Sequence[str]) -> None:
    """Reads the results of experiments, lays out their tables, writes, draws and prints them."""
    from alps.config import build as config
    from alps.runs.result import RunFailed

    try:
        asked = asked_for(arguments)
        if asked.published is not None:
            unreadable = _published(asked.published, asked)
        else:
            unreadable = [gap for name in asked.experiments for gap in _report(name, asked)]
    except (ValueError, OSError, RunFailed) as error:
        sys.exit(config.refuse(problems_of(error)))
    if unreadable:
        sys.exit(config.refuse(unreadable))


def asked_for(arguments: Sequence[str]) -> Asked:
    """What the arguments ask for.

    Args:
        arguments: `name=value`; what is no setting of the report is one of the grid.

    Raises:
        SettingsError: All problems together.
    """
    from alps.report.table.comparison import Correction

    problems = [f"'{a}' is not understood: write setting=value" for a in arguments if "=" not in a]
    own = {name: value for name, _, value in (a.partition("=") for a in arguments)}
    names = tuple(n for n in own.get("experiment", "").split(",") if n)
    formats = tuple(f for f in own.get("format", ",".join(FORMATS)).split(",") if f)
    settings = tuple(
        a for a in arguments if a.split("=", 1)[0] not in OWN or a.startswith("output_dir=")
    )
    for name in ("from", "to"):
        if own.get(name) == "":
            problems.append(f"{name}= names no folder")
    if "from" in own:
        extra = [a for a in arguments if a.startswith("experiment=")] + list(_grid(settings))
        problems += [f"{a} does not go with from=...: the table in it has its own" for a in extra]
    elif not names:
        problems.append("experiment=... is missing, as in `alps report experiment=table1`")
    problems += [
        f"format={f} is not possible{did_you_mean(f, FORMATS)}" for f in formats if f not in FORMATS
    ]
    if own.get("figures", "true") not in ("true", "false"):
        problems.append(f"figures must be true or false, got {own['figures']}")
    if own.get("correction", "none") not in get_args(Correction):
        near = did_you_mean(own["correction"], get_args(Correction))
        problems.append(f"correction={own['correction']} is not possible{near}")
    if "to" in own and len(names) > 1:
        problems.append("to=... is the folder of one experiment: report them one by one")
    if problems:
        raise SettingsError(problems)
    return Asked(
        experiments=names,
        settings=settings,
        output_dir=Path(own.get("output_dir", "outputs")),
        formats=formats,
        figures=own.get("figures", "true") == "true",
        correction=own.get("correction", "none"),  # pyright: ignore[reportArgumentType]
        to=Path(own["to"]) if own.get("to") else None,
        published=Path(own["from"]) if own.get("from") else None,
    )


def folder_name(experiment: str, settings: Sequence[str]) -> str:
    """The folder of a report, another one for another grid: `table3-mini-seed=0,1`.

    Args:
        experiment: Its name.
        settings: Of its grid; the scale comes first, then the others by name.
    """
    own = [s.removeprefix("scale=") for s in _grid(settings) if s != "scale=paper"]
    whole = "-".join([experiment, *own])
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", whole)
    if safe != whole or len(safe) > LONGEST:
        return f"{safe[:LONGEST]}-{digest(whole)[:6]}"
    return safe


def _published(folder: Path, asked: Asked) -> list[str]:
    """The report of a published table, from its own files."""
    from alps.report.table.published import read_published

    found = read_published(folder)
    place = [s for s in asked.settings if s.startswith("output_dir=")]
    again = replace(asked, settings=(*found.settings, *place))
    return _report(found.experiment, again, found.read)


def _report(experiment: str, asked: Asked, read: OutcomeReader | None = None) -> list[str]:
    """One experiment's report; returns what could not be read, or that there is nothing to read."""
    from alps.base.atomic import write_text
    from alps.cli.plan import printed
    from alps.config import build as config
    from alps.config.method_styles import method_styles
    from alps.report.run_kind import BASE
    from alps.report.table.cells import fill_table
    from alps.report.table.layout import build_layout
    from alps.report.table.notes import build_notes
    from alps.report.table.provenance import provenance
    from alps.report.table.published import publish
    from alps.report.table.terminal import print_filled

    overrides = [f"experiment={experiment}", *asked.settings]
    runs = config.runs_of(overrides)
    paper = printed(experiment)
    filled = fill_table(
        build_layout(runs, paper, base=not paper, styles=method_styles()), read, asked.correction
    )
    if not paper:  # of its own accord, as in the table of a sweep
        filled = filled.without_empty(BASE)
    command = shlex.join(["alps", "train", *overrides])
    if all(s.gap and s.gap.trouble == "missing" for each in filled.outcomes for s in each):
        runs_dir = asked.output_dir / "runs"
        return [f"{experiment}: no run of it has finished in {runs_dir}; `{command}` runs them"]
    found = provenance(filled)
    notes = build_notes(filled, found, command)
    title = _title(experiment, asked)
    texts = _texts(experiment, asked, command, filled, found, notes)

    folder = asked.output_dir / "reports" / folder_name(experiment, asked.settings)
    files = [folder / FORMATS[f] for f in asked.formats]
    for form, file in zip(asked.formats, files, strict=True):
        write_text(file, texts[form]())
    if asked.to is not None:
        files += [asked.to / FORMATS[form] for form in KEPT]
        for form in KEPT:
            write_text(asked.to / FORMATS[form], texts[form]())
        grid = set(_grid(asked.settings))
        own = [setting for setting in asked.settings if setting in grid]
        files += publish(experiment, own, filled, asked.to)
    print_filled(title, filled, found, notes)
    if asked.figures:
        files += _figures(experiment, asked, title, filled, folder)
    if not paper:
        print("no paper.csv stands for this experiment, so that no numbers are compared with it")
    print("files: " + " ".join(map(str, files)))
    return [g.reason for g in filled.gaps if g.trouble == "unreadable"]


def _figures(
    experiment: str, asked: Asked, title: str, filled: FilledTable, folder: Path
) -> list[Path]:
    """Draws what belongs to the experiment; figures of heads need scores, not runs of their own."""
    from alps.cli.plan import printed
    from alps.config import build as config
    from alps.config.method_styles import method_styles
    from alps.report.figure.figures import draw_figures
    from alps.report.heads.sheet import draw_sheet
    from alps.report.table.cells import fill_table
    from alps.report.table.layout import build_layout
    from alps.report.table.paper import HEAD_SHEETS

    own = [s for s in asked.settings if re.split("[=./]", s)[0] not in ("method", "transfer")]
    if experiment in HEAD_SHEETS:
        if asked.published is not None:  # which holds no scores
            return []
        runs = config.runs_of([f"experiment={experiment}", *own, "method=alps"])
        found = _heads(runs)
        return draw_sheet(title, found, folder) if found else []
    beside = None
    if experiment in OWN_DATA and asked.published is None:
        table = OWN_DATA[experiment]
        runs = config.runs_of([f"experiment={table}", *own])
        beside = fill_table(build_layout(runs, printed(table), styles=method_styles()))
    return draw_figures(title, filled, folder, beside)


def _heads(runs: Sequence[Run]) -> dict[tuple[str, str], HeadSet]:
    """Model and data -> the heads of a run whose task model is trained; of several, the first's.

    Raises:
        RunFailed: If a task model's weights were deleted before they were scored, or are damaged.
    """
    from alps.pipeline.head_selection import heads_without_training
    from alps.runs.folder import RunFolder

    found: dict[tuple[str, str], HeadSet] = {}
    for run in runs:
        task, place = run.task_run(), (run.model.name, run.data.name)
        known = RunFolder(run.folder).heads_path.exists()
        trained = task is None or RunFolder(task.folder).has_weights("drop")
        if place in found or not (known or trained):
            continue  # not trained yet, as the table says
        if (heads := heads_without_training(run)) is not None:
            found[place] = heads
    return found


def _texts(
    experiment: str,
    asked: Asked,
    command: str,
    filled: FilledTable,
    found: Provenance,
    notes: Notes,
) -> dict[str, Callable[[], str]]:
    """Format -> what writes it."""
    from alps.report.table.formats import csv_text, json_text, markdown
    from alps.report.table.latex import latex

    title, caption = _title(experiment, asked), _title(experiment, asked, " of the ALPS paper")
    return {
        "md": lambda: markdown(title, filled, found, notes),
        "latex": lambda: latex(caption, experiment, filled, found, notes),
        "csv": lambda: csv_text(filled, found),
        "json": lambda: json_text(experiment, command, filled, found, notes),
    }


def _title(experiment: str, asked: Asked, whose: str = "") -> str:
    """`Table 3, scale=mini, data=mini_math` of `table3`.

    Args:
        experiment: Its name.
        asked: What the command line asks for.
        whose: Stands behind the number of a table or figure: another paper has numbers of its own.
    """
    name = re.sub(r"^(table|figure)(\d+)$", rf"\1 \2{whose}", experiment)
    return ", ".join([name[:1].upper() + name[1:], *_grid(asked.settings)])


def _grid(settings: Sequence[str]) -> list[str]:
    """What sets a grid apart from the experiment's own: the scale first, then the rest by name."""
    own = sorted(s for s in settings if re.split("[=./]", s.lstrip("+"))[0] not in ELSEWHERE)
    scales = [s for s in own if s.startswith("scale=")]
    return [*scales, *(s for s in own if s not in scales)]
