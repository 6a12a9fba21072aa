"""`alps plan`: the runs that tables need, and the cost of those that are missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from alps.base.serialization import SettingsError
from alps.cli.arguments import split_settings, top_level_name, without_multirun
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input

if TYPE_CHECKING:
    from alps.plan.build import VanillaRows
    from alps.report.table.paper import PaperNumber
    from alps.settings.run import Run

TABLES = ("gpus", "rows", "other_rows")
"""Settings that are tables in conf/plan.yaml, too long for `--help`."""


def plan(arguments: Sequence[str]) -> None:
    """Plans the runs of experiments: stages, hours, disk.

    All settings of alps train are possible, too: with an experiment or without, they make the grid.
    """
    from alps.config.build import build_assumed

    with exit_on_bad_input():
        own, grid = split_plan_settings(without_multirun(arguments))
        assumed = build_assumed(own)
        from alps.plan.build import build_plan

        runs = experiment_runs(grid)
        summary = build_plan(runs, assumed, base_evaluations(runs, grid))
    if assumed.format == "json":
        print(json.dumps(summary.to_json(), indent=2))
        return
    from alps.plan.view import print_plan

    print_plan(summary)


def split_plan_settings(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of the plan, and those of the runs.

    Raises:
        ValueError: If an argument is no setting, or nothing names the runs to plan.
    """
    from alps.plan.assumptions import Assumptions

    for argument in split_settings(arguments).others:
        raise ValueError(f"'{argument}' is not understood: settings are name=value")
    names = {f.name for f in fields(Assumptions)}
    own = [a for a in arguments if top_level_name(a) in names]
    grid = [a for a in arguments if a not in own]
    if not grid:
        raise ValueError("nothing to plan: name a table, as in alps plan experiment=table1,table3")
    return own, grid


def experiment_runs(arguments: Sequence[str], variants: bool = False) -> dict[str, list[Run]]:
    """Runs of each experiment's grid by its name.

    Args:
        arguments: Settings of all grids.
        variants: Whether runs that differ in their benchmarks alone are several.

    Raises:
        SettingsError: All problems together.
    """
    from alps.config.build import GridComposer, runs_of

    texts = [a.partition("=")[2] for a in arguments if a.startswith("experiment=")]
    grid = [a for a in arguments if not a.startswith("experiment=")]
    names = [name for text in texts for name in text.split(",")]
    if not names:
        return {"the grid": runs_of(grid, variants=variants)}
    composer, runs, problems = GridComposer(), {}, []
    for name in dict.fromkeys(names):
        try:
            runs[name] = runs_of([f"experiment={name}", *grid], composer, variants)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return runs


def base_evaluations(
    experiments: Mapping[str, Sequence[Run]], arguments: Sequence[str]
) -> dict[str, VanillaRows]:
    """Rows of base models in the table of each experiment, by its name.

    Args:
        experiments: Name -> runs of its grid.
        arguments: Settings of all grids.
    """
    from alps.plan.build import VanillaRows

    return {
        name: VanillaRows(runs=own, command=_evaluate_command(name, own, arguments))
        for name, runs in experiments.items()
        if (own := _base_runs(name, runs))
    }


def _base_runs(experiment: str, runs: Sequence[Run]) -> list[Run]:
    """One run for each evaluation of a base model that the experiment's report shows."""
    from alps.report.run_kind import BASE
    from alps.report.table.layout import build_layout

    paper = paper_cells(experiment)
    if not any(cell.method == BASE for cell in paper):
        return []
    layout = build_layout(runs, paper)
    unique = {
        run.base_data_key: run
        for row in layout.rows
        for column in layout.columns
        if row.kind.method == BASE and column.benchmarks
        for data in row.columns_data(column)
        for run in row.runs.get(data, ())
    }
    return list(unique.values())


def _evaluate_command(experiment: str, runs: Sequence[Run], arguments: Sequence[str]) -> str:
    """Command that evaluates the base models of some runs, with the templates of their data."""
    needed = list(dict.fromkeys(run.data.name for run in runs))
    grid = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name != "experiment" and not (name == "data" and set(needed) <= set(value.split(","))):
            grid.append(argument)
    if not any(argument.startswith("data=") for argument in grid):
        grid.append(f"data={','.join(needed)}")
    return shlex.join(["alps", "evaluate", "-m", f"experiment={experiment}", *grid])


def paper_cells(experiment: str) -> list[PaperNumber]:
    """The paper's numbers for an experiment's table; an empty list where it has none."""
    from alps.config.conf_dir import conf_dir
    from alps.report.table.paper import find_paper, read_paper

    path = find_paper(experiment, (Path("experiments"), conf_dir().parent / "experiments"))
    return read_paper(path) if path else []


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import group_settings, read_yaml, root_settings
    from alps.plan.assumptions import Assumptions

    gpus = {"gpu": read_yaml("plan")[0]["gpus"]}
    return {
        "Settings": [
            *group_settings("experiment", "scale"),
            *root_settings("plan", Assumptions, skip=TABLES, choices=gpus),
        ],
    }


command = SettingsCommand(
    plan,
    sections,
    (
        "alps plan experiment=table1,table3",
        "alps plan experiment=table1 gpu=h100_80g format=json",
        "alps plan method=full,alps ratio=0.1,0.3 model=llama3_2_1b",
    ),
)
