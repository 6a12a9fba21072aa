"""Styles of methods and the common look of all figures.

A method has the same color and hatching in every figure. The colors are Okabe and Ito's, which
color-blind readers distinguish; hatching distinguishes colors that print as the same grey. Numbers
of the paper are light marks beside ours. No text is smaller than 8 points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from alps.base.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alps.evals.statistics import Interval

DASH = "—"
DPI = 150
WIDTH = 8.0
"""Of a figure, in inches."""

TITLE, TEXT, SMALL = 11, 9, 8
"""Font sizes in points."""

EDGE, GRID, PAPER, BAND = "#222222", "#dddddd", "#8a8a8a", "#e9e4c9"
"""Colors of outlines, grid lines, the paper's numbers and the efficient range."""

HANDLE = 4.8 * SMALL / 72
"""Width of a legend entry beside its text, in inches: patch and margins."""

SUFFIXES = (".png", ".pdf")


@dataclass(frozen=True, kw_only=True)
class MethodStyle:
    """How a method appears in tables and figures: the `report` block of its YAML.

    Attributes:
        label: Name in tables and legends; empty for the method's own name.
        color: Fill of its bars as `#rrggbb`; empty for the next color of the palette.
        hatch: Hatching of its bars, as matplotlib writes it.
    """

    label: str = ""
    color: str = ""
    hatch: str = ""

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.color and not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            yield f"report.color must be written as #rrggbb, got {self.color!r}"


VANILLA = MethodStyle(label="vanilla", color="#ffffff")
"""Of a base model, which no method trained."""

PALETTE = (
    MethodStyle(color="#d55e00", hatch="||||"),
    MethodStyle(color="#a6cee3", hatch="oo"),
    MethodStyle(color="#ffffff", hatch="\\\\"),
)
"""Repeated, for methods whose YAML names no color."""

LIGHTEST = 0.8
"""Share of white in the last of several series of one method."""

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00")
"""Okabe and Ito's colors, for lines."""


def series_styles(
    series: Mapping[str, str], styles: Mapping[str, MethodStyle]
) -> dict[str, MethodStyle]:
    """A style for each series: its method's, in lighter tints where a method has several series.

    Args:
        series: Label of each series -> its method, in order.
        styles: Style of each method that has one.
    """
    palette = cycle(PALETTE)
    methods: dict[str, list[str]] = {}
    for label, method in series.items():
        methods.setdefault(method, []).append(label)
    found = {}
    for method, labels in methods.items():
        own = styles.get(method)
        own = own if own and own.color else next(palette)
        for k, label in enumerate(labels):
            white = LIGHTEST * k / max(1, len(labels) - 1)
            found[label] = replace(own, color=_tint(own.color, white))
    return {label: found[label] for label in series}


def _tint(color: str, white: float) -> str:
    """A color mixed with that share of white."""
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + white * (255 - c)):02x}" for c in channels)


def new_figure(title: str, height: float) -> Figure:
    """A figure without panels; height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", parse_math=False)
    return figure


def style_axes(axes: Axes, name: str = "", grid: str = "y") -> None:
    """Sets a panel's title, a light grid behind the data, and no box around it."""
    if name:
        axes.set_title(name, fontsize=TEXT, loc="left", parse_math=False)
    axes.grid(axis=grid, color=GRID, linewidth=0.7)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL, length=2)


def plot_paper_values(
    axes: Axes, x: Sequence[float], y: Sequence[float], line: str = "none"
) -> None:
    """Plots the paper's numbers as light marks; `line` is a matplotlib line style."""
    axes.plot(x, y, linestyle=line, color=PAPER, linewidth=1.0, marker="D", markersize=4,
              markerfacecolor="white", markeredgewidth=1.1, zorder=4,
              label="the paper's numbers")  # fmt: skip


def error_bar(value: float, interval: Interval | None) -> tuple[float, float]:
    """Lengths of an error bar below and above a value."""
    if interval is None:
        return (0.0, 0.0)
    return (max(0.0, value - interval.low), max(0.0, interval.high - value))


def legend_below(figure: Figure, handles: Iterable[Artist] = ()) -> None:
    """Adds a legend of these handles and of all labelled artists, each label once."""
    found = {str(handle.get_label()): handle for handle in handles}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    legend = figure.legend(found.values(), found.keys(), loc="outside lower center",
                           ncols=_columns(list(found)), fontsize=SMALL, frameon=False)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _columns(labels: Sequence[str]) -> int:
    """The most columns of a legend that fit the width of a figure."""
    import numpy as np
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=SMALL)
    points = [text_to_path.get_text_width_height_descent(t, font, ismath=False)[0] for t in labels]
    widths = HANDLE + np.array(points) / 72
    for columns in range(len(labels), 1, -1):
        if sum(part.max() for part in np.array_split(widths, columns)) <= WIDTH:
            return columns
    return 1


def save(figure: Figure, path: Path) -> None:
    """Writes a figure atomically, in the format of its suffix; equal figures are equal files."""
    dateless = {"CreationDate": None} if path.suffix == ".pdf" else None
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), metadata=dateless)


def save_all(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure as PNG and as PDF; returns both paths."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path in paths:
        save(figure, path)
    return paths
