"""One look for all figures: colours that colour-blind readers tell apart, marks that survive grey.

A method has the same colour and hatching in every figure; what the paper printed is a light mark
beside ours. No text is smaller than 8 points.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alps.results import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
WIDTH = 8.0
"""Inches of a figure."""

TITLE, TEXT, SMALL = 11, 9, 8
"""Points."""

EDGE, GRID, PAPER, BAND = "#222222", "#dddddd", "#8a8a8a", "#e9e4c9"
"""Colours of outlines, grid lines, the paper's numbers and the efficient range."""

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


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def plain_axes(axes: Axes, grid: str = "y") -> None:
    """Light grid behind the data, no box."""
    axes.grid(axis=grid, color=GRID, linewidth=0.7)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL, length=2)


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
