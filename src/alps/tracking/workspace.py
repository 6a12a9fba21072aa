"""W&B workspace and report of an experiment, as specs that need no network until they are saved.

wandb-workspaces has no public API for specs: `_to_model().spec` is what `save()` sends. Its version
is pinned, and a test holds the round trip.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

PINNED = "0.4.13"
"""Version of wandb-workspaces whose specs are tested."""

WIDTH, HEIGHT, COLUMNS = 8, 6, 3
"""Size of a panel in a report, and panels side by side."""

MAX_RUNS = 100
"""Most runs that a panel shows."""

CONFIG = ("method.name", "method.ratio", "method.scope", "model.name", "data.name", "seed")
"""Axes of the parallel coordinates, before the scores."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a workspace compares.

    Attributes:
        title: Its name.
        keys: Keys of the runs, which are their names in W&B.
        baseline: Key of the run to which the others are compared, or None.
        metrics: Headline metrics as logged: `gsm8k/exact_match`.
        project: W&B project.
        entity: W&B team or user.
    """

    title: str
    keys: Sequence[str]
    baseline: str | None
    metrics: Sequence[str]
    project: str
    entity: str


def build_workspace(comparison: Comparison) -> Any:
    """A `Workspace` with curves, bars, cost, parallel coordinates, run comparer and media."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    pinned = [f"summary:{metric}" for metric in comparison.metrics]
    return ws.Workspace(
        entity=comparison.entity,
        project=comparison.project,
        name=_without_symbols(comparison.title),
        sections=[
            ws.Section(name=name, panels=panels, is_open=True)
            for name, panels in _panels(comparison).items()
        ],
        settings=ws.WorkspaceSettings(max_runs=min(len(comparison.keys), MAX_RUNS)),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Name").isin(list(comparison.keys))],
            baseline_run=comparison.baseline,
            pinned_columns=[*pinned, "summary:trainable_fraction", "summary:train_seconds"],
        ),
    )


def build_report(comparison: Comparison, *, own_runs: bool = True) -> Any:
    """A `Report` with a grid of panels for each section of the workspace.

    Args:
        comparison: What it compares.
        own_runs: Name entity and project of the runs. Dumping such a report asks the server.
    """
    wr: Any = import_module("wandb_workspaces.reports.v2")
    from wandb_workspaces import expr

    place: dict[str, Any] = {}
    if own_runs:
        place = {"entity": comparison.entity, "project": comparison.project}
    baseline = f" Baseline: `{comparison.baseline}`." if comparison.baseline else ""
    blocks: list[Any] = [
        wr.MarkdownBlock(
            f"{len(comparison.keys)} runs; intervals of each score are `/low` and `/high` beside "
            f"it, at 95 %.{baseline} The table with tests is that of `alps report`."
        )
    ]
    for name, panels in _panels(comparison, prefix="report").items():
        for index, panel in enumerate(panels):
            row, column = divmod(index, COLUMNS)
            panel.layout = wr.Layout(x=WIDTH * column, y=HEIGHT * row, w=WIDTH, h=HEIGHT)
        runset: Any = wr.Runset(
            name=comparison.title,
            filters=[expr.Metric("Name").isin(list(comparison.keys))],
            **place,
        )
        runset._id = _id("runs", name)
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(
        project=comparison.project,
        entity=comparison.entity,
        title=comparison.title[:128],
        blocks=blocks,
    )


def spec_json(view: Any) -> str:
    """The spec of a workspace or report: what its `save()` sends."""
    return view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)


def _panels(comparison: Comparison, prefix: str = "workspace") -> dict[str, list[Any]]:
    """Section -> panels, with ids that are the same each time."""
    wr: Any = import_module("wandb_workspaces.reports.v2")

    most = min(len(comparison.keys), MAX_RUNS)
    scores = list(comparison.metrics)

    def curve(name: str, title: str, **options: Any) -> Any:
        return wr.LinePlot(title=title, x="Step", y=[name], max_runs_to_show=most, **options)

    def bars(name: str, title: str) -> Any:
        return wr.BarPlot(title=title, metrics=[name], max_runs_to_show=most, max_bars_to_show=most)

    def scatter(x: str, y: str, **options: Any) -> Any:
        return wr.ScatterPlot(
            title=f"{y} by {x}", x=wr.SummaryMetric(x), y=wr.SummaryMetric(y), **options
        )

    axes: list[Any] = [wr.Config(name) for name in CONFIG]
    axes += [wr.SummaryMetric(name) for name in ("trainable_fraction", *scores)]
    sections: dict[str, list[Any]] = {
        "Curves": [
            curve("loss", "training loss", smoothing_type="exponential", smoothing_factor=0.6),
            curve("lr", "learning rate"),
            curve("tokens", "tokens"),
        ],
        "Scores": [bars(name, name) for name in (*scores, "final_train_loss")],
        "Cost": [
            *(scatter("trainable_fraction", name) for name in scores),
            *(scatter("train_seconds", name) for name in scores),
            bars("train_seconds", "training seconds"),
            bars("peak_memory_bytes", "peak memory in bytes"),
        ],
        "Settings": [
            wr.ParallelCoordinatesPlot(
                title="settings and scores",
                columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes],
            ),
            wr.RunComparer(diff_only=True),
        ],
        "Heads": [wr.MediaBrowser(title="scores and chosen heads", media_keys=["heads/heat_map"])],
    }
    for name, panels in sections.items():
        for index, panel in enumerate(panels):
            panel._id = _id(prefix, name, str(index))
    return sections


def _without_symbols(title: str) -> str:
    """The title without signs such as `=`, which wandb-workspaces takes for emojis."""
    return "".join(" " if unicodedata.category(c).startswith("S") else c for c in title)


def _id(*parts: str) -> str:
    return "-".join(parts).lower()
