"""One look for all figures: colours that colour-blind readers tell apart, marks that survive grey.

A method has the same colour and hatching in every figure; what the paper printed is a light mark
beside ours. No text is smaller than 8 points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
"""Inches of a figure."""

TITLE, TEXT, SMALL = 11, 9, 8
"""Points."""

EDGE, GRID, PAPER, BAND = "#222222", "#dddddd", "#8a8a8a", "#e9e4c9"
"""Colours of outlines, grid lines, the paper's numbers and the efficient range."""

HANDLE = 4.8 * SMALL / 72
"""Inches that an entry of a legend takes beside its text: patch and margins."""

SUFFIXES = (".png", ".pdf")


@dataclass(frozen=True)
class Look:
    """How a series is drawn: fill and hatching of bars, colour and marker of lines."""

    fill: str
    hatch: str
    marker: str


LOOKS = {
    "base": Look("#ffffff", "", "X"),
    "full": Look("#8c8c8c", "", "s"),
    "no_attn": Look("#ffffff", "////", "v"),
    "random": Look("#cfcfcf", "", "^"),
    "layer_consistent": Look("#56b4e9", "....", "D"),
    "lora": Look("#e69f00", "\\\\\\\\", "P"),
    "alps": Look("#0072b2", "", "o"),
    "cosine": Look("#f0e442", "xxxx", "<"),
    "euclidean": Look("#cc79a7", "----", ">"),
    "kl": Look("#009e73", "++++", "*"),
}
"""Okabe and Ito's colours, which differ in grey where hatching does not tell them apart."""

SPARE = (
    Look("#d55e00", "||||", "p"),
    Look("#a6cee3", "oo", "h"),
    Look("#ffffff", "\\\\", "d"),
)
"""For methods without a look of their own."""

LIGHTEST = 0.8
"""How far the last of several series of one method is on the way to white."""

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00")


def looks(series: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """A look for each series: its method's, in lighter and lighter tints where it has several.

    Args:
        series: Label and method of each, in order.
    """
    spare = iter(SPARE * 8)
    methods: dict[str, list[str]] = {}
    for label, method in series:
        methods.setdefault(method, []).append(label)
    found = {}
    for method, labels in methods.items():
        own = LOOKS.get(method) or next(spare)
        for k, label in enumerate(labels):
            share = LIGHTEST * k / max(1, len(labels) - 1)
            found[label] = replace(own, fill=_tint(own.fill, share))
    return found


def _tint(colour: str, share: float) -> str:
    """A colour that share of the way to white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)


def new_figure(title: str, height: float) -> Figure:
    """A figure without panels yet; its height is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", parse_math=False)
    return figure


def plain_axes(axes: Axes, name: str = "", grid: str = "y") -> None:
    """A panel's name above it, a light grid behind the data, no box."""
    if name:
        axes.set_title(name, fontsize=TEXT, loc="left", parse_math=False)
    axes.grid(axis=grid, color=GRID, linewidth=0.7)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL, length=2)


def plot_paper(axes: Axes, x: Sequence[float], y: Sequence[float], line: str = "none") -> None:
    """What the paper printed, as light marks; `line` is the style of what joins them."""
    axes.plot(x, y, linestyle=line, color=PAPER, linewidth=1.0, marker="D", markersize=4,
              markerfacecolor="white", markeredgewidth=1.1, zorder=4,
              label="the paper's numbers")  # fmt: skip


def reach(value: float, sure: Interval | None) -> tuple[float, float]:
    """How far an interval goes below and above a number, as error bars want it."""
    return (max(0.0, value - sure.low), max(0.0, sure.high - value)) if sure else (0.0, 0.0)


def legend_below(figure: Figure, handles: Iterable[Artist] = ()) -> None:
    """A legend of some handles and of all that the panels have labels for, each label once."""
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
    """As many columns of a legend as its figure is wide enough for."""
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
    """Writes a figure as its suffix says, whole or not at all; the same figure is the same file."""
    dateless = {"CreationDate": None} if path.suffix == ".pdf" else None
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), metadata=dateless)


def save_all(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure as PNG and PDF; returns both paths."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path in paths:
        save(figure, path)
    return paths
