"""Figure 4: score against the share of heads that train, and the efficient range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alps.report.figure.bars import block_labels
from alps.report.style import (
    BAND,
    LINES,
    TEXT,
    error_bar,
    legend_below,
    new_figure,
    plot_paper_values,
    style_axes,
)
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import ScoreColumn, headline_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.3
ENDS = {"full": 1.0, "no_attn": 0.0}
"""Method -> its place on the curve."""

FEWEST = 3
"""Points of a curve, including both ends."""

LEAST_RANGE = 2.0
"""Smallest span of an axis in points, so that equal scores look equal."""

NO_RANGE = "no efficient range: none above w/ full"
"""Remark on a curve that nowhere exceeds its w/ full."""

HALF_BAND = 2.0
"""Half the drawn width of a range of one ratio, in percent of heads."""


@dataclass(frozen=True)
class Curve:
    """Scores of one model: ratio -> cell, ascending."""

    name: str
    points: Mapping[float, Cell]

    def values(self) -> dict[float, float]:
        """Ratio -> score, where there is one."""
        return {r: c.value for r, c in self.points.items() if c.value is not None}

    def printed(self) -> dict[float, float]:
        """Ratio -> the paper's score, where there is one."""
        return {r: c.printed for r, c in self.points.items() if c.printed is not None}


def ratio_curves(filled: FilledTable) -> list[Curve]:
    """A curve for each block and method with enough ratios."""
    if not any(isinstance(c, ScoreColumn) for c in filled.layout.columns):
        return []
    column = list(filled.layout.columns).index(headline_column(filled.layout.columns))
    ends: dict[str, dict[float, Cell]] = {}
    inner: dict[tuple[str, str, str], dict[float, Cell]] = {}
    names = block_labels(filled.layout.rows)
    for row, cells in filled.rows():
        kind = row.kind
        if kind.method in ENDS:
            ends.setdefault(row.block, {})[ENDS[kind.method]] = cells[column]
        elif kind.ratio is not None:
            own = inner.setdefault((row.block, kind.method, row.variant), {})
            own[kind.ratio] = cells[column]
    found = []
    blocks = [block for block, *_ in inner]
    for (block, method, variant), points in inner.items():
        cells = {**points, **ends.get(block, {})}
        if len(points) > 1 and len(cells) >= FEWEST:
            name = names[block] + f", {method}" * (blocks.count(block) > 1)
            name += f" [{variant}]" if variant else ""
            found.append(Curve(name, dict(sorted(cells.items()))))
    return found


def efficient_ratios(curve: Curve) -> list[float]:
    """Ratios at which a curve exceeds its w/ full."""
    values = curve.values()
    if 1.0 not in values:
        return []
    return [r for r, v in values.items() if 0 < r < 1 and v > values[1.0]]


def contiguous_ranges(
    ratios: Sequence[float], measured: Sequence[float]
) -> list[tuple[float, float]]:
    """Joins neighboring ratios into ranges.

    Args:
        ratios: To be joined.
        measured: All ratios; two are neighbors if none lies between them.
    """
    order = sorted(measured)
    found: list[tuple[float, float]] = []
    for ratio in ratios:
        before = order[order.index(ratio) - 1] if order.index(ratio) else None
        if found and found[-1][1] == before:
            found[-1] = (found[-1][0], ratio)
        else:
            found.append((ratio, ratio))
    return found


def draw_curves(title: str, found: Sequence[Curve]) -> Figure:
    """A panel for each curve with w/ full as a horizontal line and the efficient range shaded."""
    figure = new_figure(title, HEIGHT)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for i, (axes, curve) in enumerate(zip(panels, found, strict=True)):
        bands = contiguous_ranges(efficient_ratios(curve), list(curve.points))
        for low, high in bands:
            wide = HALF_BAND if low == high else 0.0
            axes.axvspan(100 * low - wide, 100 * high + wide, color=BAND, zorder=0,
                         label="efficient range: above w/ full")  # fmt: skip
        measured = curve.values()
        none = 1.0 in measured and any(0 < r < 1 for r in measured) and not bands
        _draw(axes, curve, LINES[i % len(LINES)], NO_RANGE if none else "")
        axes.set_xlabel("heads that train (%)", fontsize=TEXT)
        if i == 0:
            axes.set_ylabel("average score (%)", fontsize=TEXT)
    legend_below(figure)
    return figure


def _draw(axes: Axes, curve: Curve, color: str, remark: str) -> None:
    if printed := curve.printed():
        plot_paper_values(axes, [100 * r for r in printed], list(printed.values()), line="--")
    values = curve.values()
    x, y = [100 * r for r in values], list(values.values())
    intervals = [curve.points[r].interval for r in values]
    bars = [error_bar(v, i) for v, i in zip(y, intervals, strict=True)]
    label = "ours, 95 % interval" if any(intervals) else "ours"
    axes.errorbar(x, y, yerr=list(zip(*bars, strict=True)), color=color, marker="o", markersize=5,
                  linewidth=1.6, capsize=2.5, elinewidth=0.9, zorder=5, label=label)  # fmt: skip
    if 1.0 in values:
        axes.axhline(
            values[1.0], color=color, linewidth=0.9, linestyle=":", label="w/ full (100 %)"
        )
    axes.set_xticks([100 * r for r in curve.points], [f"{100 * r:g}" for r in curve.points])
    low, high = axes.get_ylim()
    if high - low < LEAST_RANGE:
        axes.set_ylim((low + high - LEAST_RANGE) / 2, (low + high + LEAST_RANGE) / 2)
    style_axes(axes, "\n".join(part for part in (curve.name, remark) if part))
