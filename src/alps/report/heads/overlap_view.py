"""A comparison of head sets on the terminal and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alps.report.heads.heat_map import BAR, COLOURS, tick_positions
from alps.report.heads.overlap import Comparison
from alps.report.style import DASH, DPI, WIDTH, save
from alps.report.text_tables import terminal, terminal_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

LEFT, RIGHT, TOP, BETWEEN, BOTTOM, PROFILE = 2.7, 0.4, 0.6, 0.6, 0.55, 0.42
LARGEST_CELL = 0.75
"""Sizes are in inches."""


def print_comparison(comparison: Comparison) -> None:
    """Prints the sets, numbered from 1, all pairs, and the chosen heads of each layer."""
    c, console = comparison, terminal(400)
    g = c.geometry
    console.print(f"{len(c.names)} head sets of {g.num_layers} layers x {g.num_heads} heads")
    console.print()
    console.print(_set_table(c))
    console.print()
    console.print(_pair_table(c))
    console.print("by chance, p: as if every head were equally likely")
    console.print()
    console.print(_profile_table(c))
    console.print()
    console.print(f"in every set: {_heads(c)}")


def draw_overlap(comparison: Comparison, path: Path) -> None:
    """Draws the comparison 1200 pixels wide and writes it atomically.

    Above, a lower triangular matrix of shared heads and Jaccard indices, which are also the colors;
    its diagonal has the sizes of the sets. Below, bars of the chosen heads per layer for each set.
    """
    from matplotlib.figure import Figure

    c = comparison
    count = len(c.names)
    cell = min(LARGEST_CELL, (WIDTH - LEFT - RIGHT) / count)
    side, profiles = cell * count, PROFILE * count
    height = TOP + side + BETWEEN + profiles + BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    matrix = figure.add_axes(
        (LEFT / WIDTH, (height - TOP - side) / height, side / WIDTH, side / height)
    )
    _draw_matrix(matrix, c)
    for i in range(count):
        low = BOTTOM + (count - 1 - i) * PROFILE
        axes = figure.add_axes(
            (LEFT / WIDTH, low / height, 1 - (LEFT + RIGHT) / WIDTH, 0.85 * PROFILE / height)
        )
        _draw_profile(axes, c, i)
    save(figure, path)


def _set_table(c: Comparison) -> Table:
    columns = zip(c.counts, c.metrics, c.names, strict=True)
    rows = [[str(i), str(n), m or DASH, name] for i, (n, m, name) in enumerate(columns, start=1)]
    return terminal_table(("set", "heads", "metric", "name"), left=("metric", "name"), rows=rows)


def _profile_table(c: Comparison) -> Table:
    """One character per layer, ten to a word, so that long profiles wrap between words."""
    rows = []
    for i, profile in enumerate(c.profiles, start=1):
        marks = "".join("." if n == 0 else str(n) if n < 10 else "+" for n in profile)
        words = [marks[start : start + 10] for start in range(0, len(marks), 10)]
        rows.append([str(i), " ".join(words)])
    heading = "chosen in layers 0, 1, ... (. none, + ten or more)"
    return terminal_table(("set", heading), left=(heading,), rows=rows)


def _pair_table(c: Comparison) -> Table:
    number = {name: str(i) for i, name in enumerate(c.names, start=1)}
    rows = [
        [
            f"{number[pair.first]}, {number[pair.second]}",
            str(pair.shared),
            f"{pair.expected:.1f}",
            f"{pair.jaccard:.3f}",
            f"{pair.p_value:.1e}" if pair.p_value else "< 1e-300",
            DASH if pair.spearman is None else f"{pair.spearman:.3f}",
        ]
        for pair in c.pairs
    ]
    headings = ("sets", "shared", "by chance", "Jaccard", "p", "Spearman")
    return terminal_table(headings, left=("sets",), rows=rows)


def _heads(c: Comparison, most: int = 12) -> str:
    if not c.shared_by_all:
        return "no head"
    shown = ", ".join(f"({layer}, {head})" for layer, head in c.shared_by_all[:most])
    more = len(c.shared_by_all) - most
    return f"{len(c.shared_by_all)} (layer, head): {shown}{f' and {more} more' if more > 0 else ''}"


def _draw_matrix(axes: Axes, c: Comparison) -> None:
    import numpy as np

    count = len(c.names)
    index = {name: i for i, name in enumerate(c.names)}
    jaccard, shared = np.eye(count), np.diag(c.counts)
    for pair in c.pairs:
        i, j = index[pair.first], index[pair.second]
        low, high = min(i, j), max(i, j)
        jaccard[high, low], shared[high, low] = pair.jaccard, pair.shared
    below = np.ma.masked_where(np.triu(np.ones_like(jaccard), 1) > 0, jaccard)
    axes.pcolormesh(below, cmap=COLOURS, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    axes.set(ylim=(count, 0))
    for i in range(count):
        for j in range(i + 1):
            axes.text(
                j + 0.5,
                i + 0.5,
                f"{shared[i, j]}\n{jaccard[i, j]:.2f}",
                color="white" if jaccard[i, j] < 0.6 else "black",
                ha="center",
                va="center",
                fontsize=9 if count <= 7 else 8,
            )
    places = [i + 0.5 for i in range(count)]
    axes.set_xticks(places, [str(i + 1) for i in range(count)])
    numbered = [f"{name}  {i}" for i, name in enumerate(c.names, start=1)]
    axes.set_yticks(places, numbered, fontsize=8, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    by_chance = sorted({pair.expected for pair in c.pairs})
    chance = " to ".join(f"{e:.1f}" for e in by_chance[:1] + by_chance[1:][-1:])
    axes.set_title(
        f"shared heads (by chance {chance}), and over all in either (Jaccard)",
        fontsize=10,
        loc="left",
    )


def _draw_profile(axes: Axes, c: Comparison, i: int) -> None:
    layers, highest = c.geometry.num_layers, max(map(max, c.profiles))
    axes.bar(range(layers), c.profiles[i], width=0.8, color=BAR)
    axes.set(xlim=(-0.6, layers - 0.4), ylim=(0, highest))
    axes.set_ylabel(
        f"{c.names[i]}  {i + 1}", fontsize=8, rotation=0, ha="right", va="center",
        parse_math=False,
    )  # fmt: skip
    axes.set_yticks([highest], [str(highest)])
    axes.yaxis.tick_right()
    last = i == len(c.names) - 1
    shown = tick_positions(layers)
    axes.set_xticks(shown, [str(n) for n in shown] if last else [""] * len(shown))
    axes.tick_params(labelsize=8, length=2)
    for side in ("top", "left"):
        axes.spines[side].set_visible(False)
    if i == 0:
        axes.set_title("chosen heads per layer", fontsize=10, loc="left")
    if last:
        axes.set_xlabel("layer", fontsize=9)
