"""Figures 5 and 8: scores of several models and datasets on one sheet with one colour scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet
from alps.report.heads.heat_map import COLOURS, MARK, tick_positions
from alps.report.score_scale import PERCENTILE, color_scale, score_array
from alps.report.style import SMALL, TEXT, new_figure, save_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL, BAR = 2.6, 1.1
"""Inches: height of a panel, and of title and colour bar."""


def draw_sheet(
    title: str, found: Mapping[tuple[str, str], HeadSet], folder: Path, name: str = "heads"
) -> list[Path]:
    """A row of panels for each model, a column for each dataset; chosen heads are framed.

    Args:
        title: First line.
        found: Model and data -> scored heads.
        folder: Receives the files.
        name: Of the files.

    Returns:
        The files, as PNG and PDF.

    Raises:
        ValueError: If a score is NaN or infinite.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    models, data = (list(dict.fromkeys(place[i] for place in found)) for i in (0, 1))
    tables = {p: score_array(heads, " of ".join(p)) for p, heads in found.items()}
    known = {place: table for place, table in tables.items() if table is not None}
    shades = color_scale(np.concatenate([table.ravel() for table in known.values()]))
    figure = new_figure(title, BAR + PANEL * len(models))
    panels = figure.subplots(len(models), len(data), squeeze=False)
    mesh = None
    for i, model in enumerate(models):
        for j, one in enumerate(data):
            axes = panels[i, j]
            if (model, one) not in known:
                axes.set_axis_off()
                continue
            mesh = axes.pcolormesh(
                known[model, one], cmap=COLOURS, vmin=shades.low, vmax=shades.high, rasterized=True
            )
            _panel(axes, found[model, one], f"{model}, {one}")
    assert mesh is not None
    bar = figure.colorbar(
        mesh, ax=panels, orientation="horizontal", aspect=60, pad=0.02,
        extend="max" if shades.capped else "neither", ticks=MaxNLocator(5),
        format=lambda value, _: f"{value:.1e}" if value else "0",
    )  # fmt: skip
    label = f"{next(iter(found.values())).metric} score, one scale for all; chosen heads are framed"
    if shades.capped:
        label += (
            f"\n(brightest from {shades.high:.1e}, the {PERCENTILE}th percentile; "
            f"largest {shades.largest:.1e})"
        )
    bar.set_label(label, fontsize=SMALL, parse_math=False)
    bar.ax.tick_params(labelsize=SMALL)
    return save_all(figure, folder, name)


def _panel(axes: Axes, chosen: HeadSet, name: str) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    g = chosen.geometry
    axes.set_title(name, fontsize=TEXT, loc="left", parse_math=False)
    axes.set(xlim=(0, g.num_heads), ylim=(g.num_layers, 0))
    for shown, put in (
        (tick_positions(g.num_heads), axes.set_xticks),
        (tick_positions(g.num_layers), axes.set_yticks),
    ):
        put([i + 0.5 for i in shown], [str(i) for i in shown])
    axes.tick_params(labelsize=SMALL, length=2)
    axes.set_xlabel("head", fontsize=SMALL)
    axes.set_ylabel("layer", fontsize=SMALL)
    boxes = [Rectangle((head, layer), 1, 1) for layer, head in chosen.heads]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=MARK, linewidth=0.8))
