"""`alps plan`: which runs tables need, what is there already, and what the rest costs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from alps.cli.heads import problems_of

if TYPE_CHECKING:
    from alps.plan.build import VanillaRows
    from alps.report.table.paper import PaperNumber
    from alps.settings.run import Run


def plan(arguments: Sequence[str]) -> None:
    """Plans the runs of one or several experiments, or of any grid."""
    from alps.config import build as config

    try:
        own, rest = sorted_out([a for a in arguments if a not in ("-m", "--multirun")])
        assumed = config.build_assumed(own)
        from alps.plan.build import build_plan

        asked = tables(rest)
        found = build_plan(asked, assumed, vanilla(asked, rest))
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(problems_of(error)))
    if assumed.format == "json":
        print(json.dumps(found.to_json(), indent=2))
        return
    from alps.plan.view import print_plan

    print_plan(found)


def sorted_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of the plan, and those of runs.

    Raises:
        ValueError: If something is no setting, or nothing says what is to be planned.
    """
    from alps.plan.assumptions import Assumptions

    for argument in arguments:
        if "=" not in argument:
            raise ValueError(f"'{argument}' is not understood: settings are name=value")
    names = {f.name for f in fields(Assumptions)}
    own = [a for a in arguments if a.lstrip("+").partition("=")[0].split(".")[0] in names]
    rest = [a for a in arguments if a not in own]
    if not rest:
        raise ValueError("nothing to plan: name a table, as in alps plan experiment=table1,table3")
    return own, rest


def tables(arguments: Sequence[str]) -> dict[str, list[Run]]:
    """Name of each experiment -> runs of its grid."""
    from alps.base.serialization import SettingsError
    from alps.config.build import Choices, runs_of

    asked = [a.partition("=")[2] for a in arguments if a.startswith("experiment=")]
    rest = [a for a in arguments if not a.startswith("experiment=")]
    names = [name for text in asked for name in text.split(",")]
    if not names:
        return {"the grid": runs_of(rest)}
    choices, found, problems = Choices(), {}, []
    for name in dict.fromkeys(names):
        try:
            found[name] = runs_of([f"experiment={name}", *rest], choices)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return found


def vanilla(asked: Mapping[str, Sequence[Run]], arguments: Sequence[str]) -> dict[str, VanillaRows]:
    """Name of each experiment -> the rows of its table whose models are evaluated as they are.

    Args:
        asked: Name of each experiment -> runs of its grid.
        arguments: Settings of all grids.
    """
    from alps.plan.build import VanillaRows

    found = {}
    for name, runs in asked.items():
        if own := _base_runs(name, runs):
            found[name] = VanillaRows(runs=own, command=_evaluate_command(name, own, arguments))
    return found


def _base_runs(experiment: str, runs: Sequence[Run]) -> list[Run]:
    """One run for each evaluation of a model as it is that the experiment's report shows."""
    from alps.report.run_kind import BASE
    from alps.report.table.layout import build_layout

    paper = printed(experiment)
    if not any(cell.method == BASE for cell in paper):
        return []
    layout = build_layout(runs, paper)
    found = {
        run.base_data_key: run
        for row in layout.rows
        for column in layout.columns
        if row.kind.method == BASE and column.benchmarks
        for data in row.columns_data(column)
        for run in row.runs.get(data, ())
    }
    return list(found.values())


def _evaluate_command(experiment: str, runs: Sequence[Run], arguments: Sequence[str]) -> str:
    """What evaluates the base models of some runs, in the templates of no other data."""
    needed = list(dict.fromkeys(run.data.name for run in runs))
    grid = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name != "experiment" and not (name == "data" and set(needed) <= set(value.split(","))):
            grid.append(argument)
    if not any(argument.startswith("data=") for argument in grid):
        grid.append(f"data={','.join(needed)}")
    return shlex.join(["alps", "evaluate", "-m", f"experiment={experiment}", *grid])


def printed(experiment: str) -> list[PaperNumber]:
    """What the paper printed in the table of an experiment; nothing where it has none."""
    from alps.config.compose import conf_dir
    from alps.report.table.paper import find_paper, read_paper

    path = find_paper(experiment, (Path("experiments"), conf_dir().parent / "experiments"))
    return read_paper(path) if path else []
