"""`alps doctor`: what this machine has, what it lacks for some runs, and what that costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from alps.cli.arguments import split_settings, top_level_name, without_multirun
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input

if TYPE_CHECKING:
    from alps.doctor.context import Context
    from alps.doctor.finding import Finding

DEFAULT = "experiment=demo"
"""What is checked if nothing is named: it needs a small model and no network."""

COLORS = {"ok": "green", "info": "blue", "warning": "yellow", "missing": "red"}


def doctor(arguments: Sequence[str]) -> None:
    """Checks this machine, and whether runs could start on it.

    Says what is missing, what that costs, and the remedy. Settings are those of alps train; without
    any, the demo's. Downloads nothing. Exit code 0: they could run; 1: something is missing.
    """
    from alps.doctor.examine import examine

    with exit_on_bad_input():
        context, as_json = parse(arguments)
    if as_json:
        findings = list(examine(context))
        print(json.dumps(to_json(context, findings), indent=2))
    else:
        findings = _print(context)
    sys.exit(int(any(finding.state == "missing" for _, finding in findings)))


def parse(arguments: Sequence[str]) -> tuple[Context, bool]:
    """What to check, and whether to print JSON.

    Raises:
        ValueError: If an argument cannot be used.
    """
    from alps.cli.plan import experiment_runs
    from alps.config.build import build_assumed
    from alps.config.launcher import slurm_settings
    from alps.doctor.context import Context
    from alps.plan.assumptions import Assumptions
    from alps.plan.cost import model_shape

    arguments = without_multirun(arguments)
    for argument in split_settings(arguments).others:
        raise ValueError(f"'{argument}' is not understood: settings are name=value")
    names = {f.name for f in fields(Assumptions)}
    own = [a for a in arguments if top_level_name(a) in names]
    grid = [a for a in arguments if a not in own]
    assumed, slurm = build_assumed(own), slurm_settings(grid)
    grid = [a for a in grid if not a.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))]
    runs = {r.key: r for each in experiment_runs(grid or _default()).values() for r in each}
    for run in runs.values():
        model_shape(run.model)  # of a folder that is no model
    context = Context(
        name=" ".join(grid) or DEFAULT,
        runs=list(runs.values()),
        assumed=assumed,
        is_default=not grid,
        device_given=any(top_level_name(a) in ("gpu", "gpus") for a in own),
        slurm=slurm,
    )
    return context, assumed.format == "json"


def _default() -> list[str]:
    """The demo; without the package of its model another one, as that is a finding."""
    from alps.doctor.packages import default_model

    try:
        default_model().package_file()
    except ValueError:
        return [DEFAULT, "model=tiny"]
    return [DEFAULT]


def _print(context: Context) -> list[tuple[str, Finding]]:
    """Prints findings as they are made, and the conclusion."""
    import click

    from alps.doctor.examine import examine

    findings, section = [], None
    for title, finding in examine(context):
        if title != section:
            click.echo(("" if section is None else "\n") + click.style(title, bold=True))
            section = title
        state = click.style(f"{finding.state:<8}", fg=COLORS[finding.state])
        click.echo(f"  {state} {finding.sentence}")
        sys.stdout.flush()
        findings.append((title, finding))
    click.echo(f"\n{conclusion(context, [finding for _, finding in findings])}")
    return findings


def conclusion(context: Context, findings: Sequence[Finding]) -> str:
    """Whether the runs could start, in a sentence."""
    missing = [finding.name for finding in findings if finding.state == "missing"]
    where = "here" if context.slurm is None else "as SLURM jobs"
    if context.slurm is None and context.target.of_slurm:
        where = "as SLURM jobs (-m hydra/launcher=slurm)"
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        return f"{context.name} cannot run {where}; missing or too small: {names}"
    warnings = sum(finding.state == "warning" for finding in findings)
    noted = f"; {warnings} warnings" if warnings > 1 else "; 1 warning" if warnings else ""
    return f"{context.name} can run {where}, on {context.target.name}{noted}"


def to_json(context: Context, findings: Sequence[tuple[str, Finding]]) -> dict[str, object]:
    """The same for other programs."""
    return {
        "runs": context.name,
        "target": asdict(context.target),
        "can_run": not any(finding.state == "missing" for _, finding in findings),
        "findings": [{"section": title, **asdict(finding)} for title, finding in findings],
    }


def sections() -> Sections:
    """Settings of the command: some of `alps plan`, and those of `alps train`."""
    from alps.cli.plan import TABLES
    from alps.cli.setting_docs import group_settings, read_yaml, root_settings
    from alps.plan.assumptions import Assumptions

    gpus = {"gpu": read_yaml("plan")[0]["gpus"]}
    skip = (*TABLES, "utilisation", "answer_share", "other_rows", "rows", "gpus")
    own = root_settings("plan", Assumptions, skip=skip, choices=gpus)
    names = {setting.name for setting in own}
    return {
        "Settings": [*own, *(s for s in root_settings("train") if s.name not in names)],
        "Choices, files of conf/NAME": group_settings(),
    }


command = SettingsCommand(
    doctor,
    sections,
    (
        "alps doctor                                  # this machine, and the demo",
        "alps doctor experiment=table1 format=json",
        "alps doctor experiment=table1 hydra/launcher=slurm hydra.launcher.partition=gpu",
    ),
)
