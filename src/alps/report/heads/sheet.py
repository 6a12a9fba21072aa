"""Figures 5 and 8: heat maps of several models and datasets in one figure with one color scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet
from alps.report.heads.heat_map import COLOURS, draw_boxes, draw_color_bar, tick_positions
from alps.report.score_scale import color_scale, score_array
from alps.report.style import SMALL, TEXT, new_figure, save_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL, BAR = 2.6, 1.1
"""Heights of a panel, and of title and color bar, in inches."""


def draw_sheet(
    title: str, found: Mapping[tuple[str, str], HeadSet], folder: Path, name: str = "heads"
) -> list[Path]:
    """Draws a row of panels for each model and a column for each dataset; chosen heads are framed.

    Returns:
        The files, as PNG and PDF.

    Raises:
        ValueError: If a score is NaN or infinite.
    """
    import numpy as np

    models, data = (list(dict.fromkeys(place[i] for place in found)) for i in (0, 1))
    tables = {p: score_array(heads, " of ".join(p)) for p, heads in found.items()}
    known = {place: table for place, table in tables.items() if table is not None}
    scale = color_scale(np.concatenate([table.ravel() for table in known.values()]))
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
                known[model, one], cmap=COLOURS, vmin=scale.low, vmax=scale.high, rasterized=True
            )
            _panel(axes, found[model, one], f"{model}, {one}")
    assert mesh is not None
    bar = draw_color_bar(figure, mesh, scale, ax=panels, aspect=60, pad=0.02)
    label = f"{next(iter(found.values())).metric} score, one scale for all; chosen heads are framed"
    bar.set_label(f"{label}\n{scale.remark}".rstrip(), fontsize=SMALL, parse_math=False)
    bar.ax.tick_params(labelsize=SMALL)
    return save_all(figure, folder, name)


def _panel(axes: Axes, chosen: HeadSet, name: str) -> None:
    g = chosen.geometry
    axes.set_title(name, fontsize=TEXT, loc="left", parse_math=False)
    axes.set(xlim=(0, g.num_heads), ylim=(g.num_layers, 0))
    for count, set_ticks in ((g.num_heads, axes.set_xticks), (g.num_layers, axes.set_yticks)):
        shown = tick_positions(count)
        set_ticks([i + 0.5 for i in shown], [str(i) for i in shown])
    axes.tick_params(labelsize=SMALL, length=2)
    axes.set_xlabel("head", fontsize=SMALL)
    axes.set_ylabel("layer", fontsize=SMALL)
    draw_boxes(axes, chosen, (0.0, 0.0), facecolor="none", linewidth=0.8)
