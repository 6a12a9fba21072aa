"""Settings of `alps report`, and the folder of a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from alps.base.hashing import digest
from alps.base.serialization import SettingsError, did_you_mean
from alps.cli.arguments import split_settings, top_level_name
from alps.report.table.comparison import Correction

FORMATS = {"md": "table.md", "latex": "table.tex", "csv": "results.csv", "json": "results.json",
           "html": "dashboard.html"}  # fmt: skip
"""Format -> file."""

USUAL = ("md", "latex", "csv", "json")
"""Formats written by default; a page takes 5 MB."""

NOT_SCIENCE = ("trainer", "logger", "hydra", "weights", "output_dir", "fail_fast", "debug")
"""Settings of where and how runs are done; they make no other table."""

MAX_NAME = 60
"""Letters of a folder's name; a longer one is cut."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of `alps report`; `settings` holds those of the grid.

    Attributes:
        experiment: Experiments, one report each.
        format: File formats of the table; html is the page of alps dashboard.
        figures: Whether figures are drawn.
        correction: Correction for the number of comparisons with Random.
        to: Folder that also receives the table and its data, or null.
        from_: Folder of a published table, reported again from its files.
        output_dir: Folder of the outputs.
        settings: Settings of the experiments' grids, output_dir included.
    """

    experiment: tuple[str, ...] = ()
    format: tuple[str, ...] = USUAL
    figures: bool = True
    correction: Correction = "none"
    to: Path | None = None
    from_: Path | None = None
    output_dir: Path = Path("outputs")
    settings: tuple[str, ...] = ()


OWN = ("experiment", "format", "figures", "correction", "to", "from")
"""Settings that are no part of the grid."""


def parse_settings(arguments: Sequence[str]) -> ReportSettings:
    """Settings of the report.

    Args:
        arguments: `name=value`; settings that are not the report's are the grid's.

    Raises:
        SettingsError: All problems together.
    """
    values, grid = split_settings(arguments, OWN)
    problems = [f"'{a}' is not understood: write setting=value" for a in grid if "=" not in a]
    names = tuple(n for n in values.get("experiment", "").split(",") if n)
    formats = tuple(f for f in values.get("format", ",".join(USUAL)).split(",") if f)
    for name in ("from", "to"):
        if values.get(name) == "":
            problems.append(f"{name}= names no folder")
    if "from" in values:
        extra = [a for a in arguments if a.startswith("experiment=")] + grid_settings(grid)
        problems += [f"{a} does not go with from=...: the table in it has its own" for a in extra]
    elif not names:
        problems.append("experiment=... is missing, as in `alps report experiment=table1`")
    problems += [
        f"format={f} is not possible{did_you_mean(f, FORMATS)}" for f in formats if f not in FORMATS
    ]
    if values.get("figures", "true") not in ("true", "false"):
        problems.append(f"figures must be true or false, got {values['figures']}")
    if values.get("correction", "none") not in get_args(Correction):
        near = did_you_mean(values["correction"], get_args(Correction))
        problems.append(f"correction={values['correction']} is not possible{near}")
    if "to" in values and len(names) > 1:
        problems.append("to=... is the folder of one experiment: report them one by one")
    if problems:
        raise SettingsError(problems)
    output_dir = split_settings(grid).values.get("output_dir", "outputs")
    return ReportSettings(
        experiment=names,
        format=formats,
        figures=values.get("figures", "true") == "true",
        correction=values.get("correction", "none"),  # pyright: ignore[reportArgumentType]
        to=Path(values["to"]) if values.get("to") else None,
        from_=Path(values["from"]) if values.get("from") else None,
        output_dir=Path(output_dir),
        settings=tuple(grid),
    )


def folder_name(experiment: str, settings: Sequence[str]) -> str:
    """Folder of a report; each grid has its own: `table3-mini-seed=0,1`.

    Args:
        experiment: Its name.
        settings: Settings of its grid; the scale comes first, then the others by name.
    """
    own = [s.removeprefix("scale=") for s in grid_settings(settings) if s != "scale=paper"]
    name = "-".join([experiment, *own])
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", name)
    if safe != name or len(safe) > MAX_NAME:
        return f"{safe[:MAX_NAME]}-{digest(name)[:6]}"
    return safe


def grid_settings(settings: Sequence[str]) -> list[str]:
    """Settings that change an experiment's grid: the scale first, then the others by name."""
    own = sorted(s for s in settings if top_level_name(s) not in NOT_SCIENCE)
    scales = [s for s in own if s.startswith("scale=")]
    return [*scales, *(s for s in own if s not in scales)]
