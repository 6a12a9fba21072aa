"""`alps workspace`: a W&B workspace and report that compare the runs of an experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.serialization import SettingsError
from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input

if TYPE_CHECKING:
    from alps.settings.run import Run
    from alps.tracking.workspace import Comparison

DRY_RUN = "--dry-run"
OWN = ("experiment", "metrics")


@dataclass(frozen=True, kw_only=True)
class WorkspaceSettings:
    """Settings of `alps workspace`.

    Attributes:
        experiment: The experiment whose runs are compared.
        metrics: Scores to compare, as in gsm8k/exact_match; null for each benchmark's first.
        output_dir: Folder of the outputs.
    """

    experiment: str | None = None
    metrics: tuple[str, ...] | None = None
    output_dir: str = "outputs"


def workspace(arguments: Sequence[str]) -> None:
    """Compares the runs of an experiment in W&B.

    It makes a workspace and a report with curves, bars beside the baseline (w/ full, where it is
    known), cost against scores, parallel coordinates, the run comparer and heat maps. Repeated, it
    updates the same ones. With --dry-run their specs are written to files and nothing is sent. All
    settings of alps train are possible, too: they make the grid.
    """
    dry = DRY_RUN in arguments
    with exit_on_bad_input((ValueError, OSError)):
        comparison, folder, guessed = _comparison([a for a in arguments if a != DRY_RUN], dry)
        if guessed:
            print(f"no result yet of {', '.join(guessed)}: named as their settings name them")
        for line in (_write if dry else _save)(comparison, folder):
            print(line)


def _comparison(arguments: Sequence[str], dry: bool) -> tuple[Comparison, Path, list[str]]:
    """What is compared, the folder of the specs, and benchmarks without results.

    Raises:
        SettingsError: All problems together.
    """
    from alps.cli.report_settings import folder_name
    from alps.config.build import runs_of
    from alps.tracking.workspace import Comparison

    values, grid = split_settings(arguments, OWN)
    problems = [f"'{a}' is not understood: write setting=value" for a in grid if "=" not in a]
    experiment = values.get("experiment", "")
    if not experiment or "," in experiment:
        problems.append("experiment=... must name one, as in `alps workspace experiment=table2`")
    problems += _package_problems()
    if problems:
        raise SettingsError(problems)
    runs = runs_of([f"experiment={experiment}", *grid])
    first = runs[0]
    metrics, guessed = [m for m in values.get("metrics", "").split(",") if m], []
    if not metrics:
        metrics, guessed = headline_metrics(runs)
    baseline = baseline_key(runs)
    keys = [baseline] if baseline else []
    keys += [run.key for run in runs]
    keys += [key for run in runs for key in (run.base_key, run.base_data_key)]
    name = folder_name(experiment, grid)
    comparison = Comparison(
        title=name,
        keys=list(dict.fromkeys(keys)),
        baseline=baseline,
        metrics=metrics,
        project=first.logger.project,
        entity=first.logger.entity or ("ENTITY" if dry else _default_entity()),
    )
    return comparison, Path(first.output_dir) / "reports" / name, guessed


def _package_problems() -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    from alps.tracking.workspace import PINNED

    try:
        found = version("wandb-workspaces")
    except PackageNotFoundError:
        found = "none"
    if found == PINNED:
        return []
    remedy = "run `pip install 'alps[workspace]'`"
    return [f"alps workspace needs wandb-workspaces {PINNED}, here is {found}: {remedy}"]


def _default_entity() -> str:
    """The entity of the account.

    Raises:
        ValueError: Without credentials.
    """
    import wandb

    from alps.tracking.session import session_mode

    if session_mode() != "online":
        raise ValueError("W&B is offline or has no key here: run `wandb login`, or add --dry-run")
    entity = wandb.Api().default_entity
    if not entity:
        raise ValueError("the W&B account has no default entity: set logger.entity=...")
    return entity


def baseline_key(runs: Sequence[Run]) -> str | None:
    """The run w/ full of the grid's first model and data, also if it is only a task model."""
    for run in runs:
        if run.method.name == "full":
            return run.key
    tasks = (run.task_run() for run in runs)
    return next((task.key for task in tasks if task and task.method.name == "full"), None)


def headline_metrics(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """First metric of each benchmark, from results where there are some; and those without.

    Args:
        runs: The runs.
    """
    from alps.runs.folder import RunFolder
    from alps.runs.result import Result

    known: dict[str, str] = {}
    for path in (RunFolder(run.folder).result_path for run in runs):
        if path.exists():
            evals = Result.read(path).evals
            known |= {name: next(iter(metrics)) for name, metrics in evals.items() if metrics}
    benchmarks = {b.name: b for run in runs for b in run.evals.benchmarks}
    guessed = [name for name in benchmarks if name not in known]
    for name in guessed:
        fallback = "loss" if benchmarks[name].reads_data else "pass@1"
        known[name] = next(iter(getattr(benchmarks[name], "metrics", ())), fallback)
    return [f"{name}/{known[name]}" for name in benchmarks], guessed


def _write(comparison: Comparison, folder: Path) -> list[str]:
    """Writes the specs; returns lines about them."""
    from alps.base.atomic import write_text
    from alps.tracking.workspace import build_report, build_workspace, spec_json

    views: dict[str, Any] = {
        "workspace": build_workspace(comparison),
        "report": build_report(comparison, own_runs=False),
    }
    files = [folder / f"wandb-{name}.json" for name in views]
    for file, view in zip(files, views.values(), strict=True):
        write_text(file, spec_json(view) + "\n")
    return [f"{len(comparison.keys)} runs; nothing was sent", "files: " + " ".join(map(str, files))]


def _save(comparison: Comparison, folder: Path) -> list[str]:
    """Saves workspace and report in W&B, those of an earlier call anew; returns their addresses.

    Raises:
        ValueError: If W&B refuses.
    """
    from importlib import import_module

    from alps.base.atomic import write_json
    from alps.tracking.workspace import build_report, build_workspace

    ws: Any = import_module("wandb_workspaces.workspaces")
    wr: Any = import_module("wandb_workspaces.reports.v2")
    place = folder / "wandb-views.json"
    urls: dict[str, str] = json.loads(place.read_text()) if place.exists() else {}
    views: list[tuple[str, Any, Any, tuple[str, ...]]] = [
        ("workspace", ws.Workspace, build_workspace(comparison),
         ("name", "sections", "settings", "runset_settings")),
        ("report", wr.Report, build_report(comparison), ("title", "blocks")),
    ]  # fmt: skip
    for name, kind, view, parts in views:
        try:
            if name in urls:  # a fresh object would become a second view
                saved = kind.from_url(urls[name])
                for part in parts:
                    setattr(saved, part, getattr(view, part))
                view = saved
            view.save()
        except Exception as error:
            raise ValueError(f"W&B did not save the {name}: {error}") from None
        urls[name] = view.url
        write_json(place, urls)
    return [f"{name}: {url}" for name, url in urls.items()]


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import config_choices, dataclass_settings, group_settings

    choices = {"experiment": config_choices("experiment")}
    own = dataclass_settings(WorkspaceSettings, choices=choices)
    return {"Settings": [*own, *group_settings("scale")]}


command = SettingsCommand(
    workspace,
    sections,
    (
        "alps workspace experiment=table2",
        "alps workspace experiment=table2 scale=mini --dry-run",
        "alps workspace experiment=table3 metrics=gsm8k/exact_match logger.entity=team",
    ),
    metavar="[NAME=VALUE]... [--dry-run]",
)
