"""Heat map of the scores of all heads, with the chosen heads marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.heads.head_set import HeadSet
from alps.report.score_scale import (
    ColorScale,
    checkpoint_names,
    color_scale,
    score_array,
    selection_summary,
)
from alps.report.style import DPI, WIDTH, save

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

LEFT, MAP_WIDTH, GAP, BARS_WIDTH = 0.75, 5.75, 0.12, 0.95
TITLE, GROUP_LABELS, COLOUR_BAR, HEAD_LABELS = 0.6, 0.4, 0.65, 0.6
COLOURS, MARK, PLAIN, BAR = "viridis", "#ff2a2a", "#e4e4e8", "#4c5b70"
"""Sizes are in inches."""

MOST_TICKS, MOST_LINES = 17, 48
"""Labels of an axis, and layers or heads with lines between cells; more would clutter the map."""


def draw_heat_map(head_set: HeadSet, path: Path, title: str | None = None) -> None:
    """Draws layers (0 at the top) by heads, 1200 pixels wide.

    The color is the score; a head set without scores shows only which heads are chosen. White gaps
    separate the KV groups. Bars at the right count the chosen heads of each layer.

    Args:
        head_set: The head set.
        path: PNG or PDF file, written atomically.
        title: First line; by default the names of the two checkpoints.

    Raises:
        ValueError: If a score is NaN or infinite.
    """
    from matplotlib.figure import Figure

    scores = score_array(head_set)
    grouped = 1 < head_set.geometry.group_size < head_set.geometry.num_heads
    bottom = HEAD_LABELS + (0 if scores is None else COLOUR_BAR)
    layers = head_set.geometry.num_layers
    map_height = layers * min(0.42, max(0.1, 6.2 / layers))
    height = TITLE + GROUP_LABELS * grouped + map_height + bottom
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)

    def place(left: float, low: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, low / height, width / WIDTH, tall / height))

    main = place(LEFT, bottom, MAP_WIDTH, map_height)
    if scores is None:
        main.set_facecolor(PLAIN)
    else:
        bar_axes = place(LEFT, 0.5, MAP_WIDTH, 0.14)
        _draw_scores(figure, main, bar_axes, scores, head_set.metric or "score")
    _draw_grid(main, head_set)
    if grouped:
        _draw_groups(main, head_set)
    _mark(main, head_set, map_height, filled=scores is None)
    _draw_counts(place(LEFT + MAP_WIDTH + GAP, bottom, BARS_WIDTH, map_height), head_set)
    _write_title(figure, head_set, title)
    save(figure, path)


def draw_color_bar(figure: Figure, mesh: QuadMesh, scale: ColorScale, **place: Any) -> Colorbar:
    """Draws a horizontal color bar."""
    from matplotlib.ticker import MaxNLocator

    return figure.colorbar(
        mesh,
        orientation="horizontal",
        extend="max" if scale.capped else "neither",
        ticks=MaxNLocator(5),
        format=lambda value, _: f"{value:.1e}" if value else "0",
        **place,
    )


def _draw_scores(
    figure: Figure, axes: Axes, bar_axes: Axes, scores: np.ndarray, metric: str
) -> None:
    scale = color_scale(scores)
    # A mesh, not an image: images are resampled, which loses scores as small as 1e-22.
    mesh = axes.pcolormesh(scores, cmap=COLOURS, vmin=scale.low, vmax=scale.high)
    bar = draw_color_bar(figure, mesh, scale, cax=bar_axes, extendfrac=0.03)
    bar.set_label(f"{metric} score {scale.remark}".rstrip(), fontsize=9, parse_math=False)
    bar_axes.tick_params(labelsize=8)


def _draw_grid(axes: Axes, head_set: HeadSet) -> None:
    g = head_set.geometry
    axes.set(xlim=(0, g.num_heads), ylim=(g.num_layers, 0))
    axes.set_xlabel("head", fontsize=9)
    axes.set_ylabel("layer", fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    layers = tick_positions(g.num_layers)
    axes.set_yticks([i + 0.5 for i in layers], [str(i) for i in layers])
    heads = tick_positions(g.num_heads, g.group_size if g.num_heads > MOST_TICKS else 1)
    axes.set_xticks([i + 0.5 for i in heads], [str(i) for i in heads])
    if max(g.num_layers, g.num_heads) <= MOST_LINES:
        axes.hlines(range(1, g.num_layers), 0, g.num_heads, color="white", linewidth=0.25)
        axes.vlines(range(1, g.num_heads), 0, g.num_layers, color="white", linewidth=0.25)


def _draw_groups(axes: Axes, head_set: HeadSet) -> None:
    g = head_set.geometry
    borders = range(g.group_size, g.num_heads, g.group_size)
    axes.vlines(borders, 0, g.num_layers, color="white", linewidth=1.6)
    groups = tick_positions(g.num_kv_heads)
    above = axes.secondary_xaxis("top")
    above.set_xticks([(i + 0.5) * g.group_size for i in groups], [str(i) for i in groups])
    above.set_xlabel("KV group", fontsize=9)
    above.tick_params(labelsize=8, length=0)


def tick_positions(count: int, step: int = 1) -> Sequence[int]:
    """Indices below `count` with a label, `step` or a multiple of it apart."""
    return range(0, count, step * math.ceil(count / (step * MOST_TICKS)))


def draw_boxes(axes: Axes, head_set: HeadSet, inset: tuple[float, float], **style: Any) -> None:
    """Draws a box around each chosen head.

    Args:
        axes: With unit cells, layers by heads.
        head_set: The head set.
        inset: Horizontal and vertical distance of a box to its cell's border, in cells.
        style: Arguments of `PatchCollection`.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    x, y = inset
    boxes = [
        Rectangle((head + x, layer + y), 1 - 2 * x, 1 - 2 * y) for layer, head in head_set.heads
    ]
    axes.add_collection(PatchCollection(boxes, edgecolor=MARK, **style))


def _mark(axes: Axes, head_set: HeadSet, map_height: float, filled: bool) -> None:
    g = head_set.geometry
    cell_width, cell_height = MAP_WIDTH / g.num_heads, map_height / g.num_layers
    smaller = min(cell_width, cell_height)
    draw_boxes(
        axes,
        head_set,
        (0.07 * smaller / cell_width, 0.07 * smaller / cell_height),
        facecolor=MARK if filled else "none",
        linewidth=min(1.3, 10 * smaller),
        zorder=3,
    )


def _draw_counts(axes: Axes, head_set: HeadSet) -> None:
    layers = head_set.geometry.num_layers
    counts = [len(head_set.by_layer().get(layer, ())) for layer in range(layers)]
    places = [layer + 0.5 for layer in range(layers)]
    axes.barh(places, counts, height=0.75, color=BAR)
    axes.set(ylim=(layers, 0), xlim=(0, 1.3 * max(counts)), xticks=[], yticks=[])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    if layers <= MOST_LINES:
        for place, count in zip(places, counts, strict=True):
            if count:
                axes.annotate(
                    str(count), (count, place), (2, 0), textcoords="offset points",
                    va="center", fontsize=8,
                )  # fmt: skip
    axes.set_xlabel("chosen per layer", fontsize=8)


def _write_title(figure: Figure, head_set: HeadSet, title: str | None) -> None:
    first = title or checkpoint_names(head_set) or f"{head_set.metric or 'chosen'} heads"
    height = figure.get_figheight()
    for text, below, size in (
        (first, 0.16, 11),
        (f"{selection_summary(head_set)}; chosen heads are red", 0.4, 9),
    ):
        figure.text(
            LEFT / WIDTH, 1 - below / height, _shortened(text), fontsize=size, va="center",
            parse_math=False,
        )  # fmt: skip


def _shortened(text: str, most: int = 90) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"
