"""`alps dashboard`: runs as one interactive page that needs no network and no server."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input

OPEN = "--open"


@dataclass(frozen=True, kw_only=True)
class DashboardSettings:
    """Settings of `alps dashboard`.

    Attributes:
        experiment: Experiments whose grids are shown, missing runs included; null: all runs there.
        to: Folder that receives index.html; null: reports/dashboard in output_dir, or the folder
            of the experiment's report.
        output_dir: Folder of the outputs.
    """

    experiment: str | None = None
    to: str | None = None
    output_dir: str = "outputs"


@dataclass(frozen=True, kw_only=True)
class DashboardRequest:
    """What is shown, and where it is written.

    Attributes:
        filters: Of `alps runs`, or with experiments the settings of their grids.
        experiments: Names of experiments.
        path: The page.
        output_dir: Folder of the outputs.
        open: Whether a browser opens the page.
        command: The command line.
    """

    filters: tuple[str, ...]
    experiments: tuple[str, ...]
    path: Path
    output_dir: Path
    open: bool
    command: str


def dashboard(arguments: Sequence[str]) -> None:
    """Writes runs as one HTML page.

    Prints its path; --open opens it. Each FILTER is one of alps runs. With experiment=...,
    settings are those of alps train: they make the grid.
    """
    from alps.runs.result import RunFailed

    with exit_on_bad_input((ValueError, OSError, RunFailed)):
        asked = parse_request(arguments)
        _write(asked)
        print(asked.path)
    if asked.open:
        import webbrowser

        webbrowser.open(asked.path.absolute().as_uri())


def parse_request(arguments: Sequence[str]) -> DashboardRequest:
    """What the arguments ask for.

    Raises:
        SettingsError: All problems together.
    """
    from alps.base.serialization import SettingsError
    from alps.cli.report_settings import folder_name

    values, others = split_settings(arguments, ("experiment", "to", "output_dir"))
    filters = [a for a in others if a != OPEN]
    experiments = tuple(n for n in values.get("experiment", "").split(",") if n)
    problems = [f"{name}= is empty" for name in values if not values[name]]
    problems += [
        f"'{a}' is not understood: alps dashboard has the option {OPEN} alone"
        for a in filters
        if a.startswith("-")
    ]
    if experiments:
        problems += [
            f"'{a}' is not understood: with experiment=... write setting=value"
            for a in filters
            if "=" not in a
        ]
    if problems:
        raise SettingsError(problems)
    output_dir = Path(values.get("output_dir", "outputs"))
    name = folder_name(",".join(experiments) or "dashboard", filters)
    folder = Path(values["to"]) if "to" in values else output_dir / "reports" / name
    own_folder = "to" in values or not experiments
    return DashboardRequest(
        filters=tuple(filters),
        experiments=experiments,
        path=folder / ("index.html" if own_folder else "dashboard.html"),
        output_dir=output_dir,
        open=OPEN in others,
        command=shlex.join(["alps", "dashboard", *(a for a in arguments if a != OPEN)]),
    )


def _write(asked: DashboardRequest) -> None:
    from alps.config.method_styles import method_styles
    from alps.report.page.content import About, page_content
    from alps.report.page.page_run import runs_in_folder, runs_of_grid
    from alps.report.page.write import write_page

    runs_dir = asked.output_dir / "runs"
    if asked.experiments:
        from alps.config.build import runs_of

        place = f"output_dir={asked.output_dir}"
        grids = [runs_of([f"experiment={e}", *asked.filters, place]) for e in asked.experiments]
        runs = runs_of_grid([run for grid in grids for run in grid])
        names = ", ".join(asked.experiments)
        if all(run.state == "missing" for run in runs):
            commands = "; ".join(
                shlex.join(["alps", "train", f"experiment={e}", *asked.filters])
                for e in asked.experiments
            )
            raise ValueError(f"{names}: no run of it is in {runs_dir}; `{commands}` runs them")
        title, source = f"alps: {names}", f"{names} in {runs_dir.absolute()}"
    else:
        runs = runs_in_folder(asked.output_dir, asked.filters)
        if not runs:
            wanted = f" match {' '.join(asked.filters)}" if asked.filters else ""
            raise ValueError(f"no runs in {runs_dir}{wanted}: `alps train method=alps` makes one")
        title, source = "alps dashboard", str(runs_dir.absolute())
    about = About(title=title, source=source, command=asked.command, styles=method_styles())
    write_page(page_content(runs, about), asked.path)


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import config_choices, dataclass_settings

    choices = {"experiment": config_choices("experiment")}
    return {"Settings": dataclass_settings(DashboardSettings, choices=choices)}


command = SettingsCommand(
    dashboard,
    sections,
    (
        "alps dashboard --open",
        "alps dashboard method=alps data=mini_math",
        "alps dashboard experiment=table1 scale=mini",
    ),
    metavar="[--open] [FILTER | NAME=VALUE]...",
)
