"""`alps plan`: which runs tables need, what is there already, and what the rest costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields

from alps.cli_heads import sentence


def plan(arguments: Sequence[str]) -> None:
    """Plans the runs of one or several experiments, or of any grid."""
    from alps import config

    try:
        own, rest = sorted_out([a for a in arguments if a not in ("-m", "--multirun")])
        assumed = config.build_assumed(own)
        from alps.plan.overview import overview

        found = overview(tables(rest), assumed)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(getattr(error, "problems", [sentence(error)])))
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
    from alps.plan.assumed import Assumed

    for argument in arguments:
        if "=" not in argument:
            raise ValueError(f"'{argument}' is not understood: settings are name=value")
    names = {f.name for f in fields(Assumed)}
    own = [a for a in arguments if a.lstrip("+").partition("=")[0].split(".")[0] in names]
    rest = [a for a in arguments if a not in own]
    if not rest:
        raise ValueError("nothing to plan: name a table, as in alps plan experiment=table1,table3")
    return own, rest


def tables(arguments: Sequence[str]) -> dict[str, list]:
    """Name of each experiment -> runs of its grid."""
    from alps.config import Choices, runs_of
    from alps.plain import SettingsError

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
