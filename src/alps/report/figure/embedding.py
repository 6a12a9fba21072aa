"""Figure 7: datasets in embedding space as an image, an interactive page and tables."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.base.atomic import write_text
from alps.report.style import DASH, DPI, WIDTH, save
from alps.report.text_tables import csv_table, terminal, terminal_table

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's, which color-blind readers distinguish; shapes differ as well."""
SHAPES = (("o", "circle"), ("s", "square"), ("D", "diamond"), ("x", "x"), ("P", "cross"))
"""Markers in matplotlib and in plotly."""
HEIGHT, EXCERPT = 6.4, 80


@dataclass(frozen=True)
class Points:
    """Examples of a dataset in three dimensions, with the start of each instruction."""

    name: str
    places: Sequence[tuple[float, float, float]]
    texts: Sequence[str]


def write_points(
    path: Path, rows: Sequence[tuple[str, str]], places: Sequence[Sequence[float]]
) -> None:
    """Writes `points.csv`: dataset, x, y, z, and the instruction's first 80 characters."""
    lines = [["dataset", "x", "y", "z", "instruction"]]
    for (dataset, instruction), place in zip(rows, places, strict=True):
        excerpt = " ".join(instruction.split())[:EXCERPT]
        lines.append([dataset, *(f"{value:.7g}" for value in place), excerpt])
    write_text(path, csv_table(lines))


def read_points(path: Path) -> list[Points]:
    """The points of each dataset, in the order in which the datasets appear."""
    found: dict[str, list[tuple[tuple[float, float, float], str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            place = (float(row["x"]), float(row["y"]), float(row["z"]))
            found.setdefault(row["dataset"], []).append((place, row["instruction"]))
    return [Points(name, *zip(*rows, strict=True)) for name, rows in found.items()]


def read_measures(folder: Path) -> dict[str, Any]:
    """`measures.json` of a report."""
    return json.loads((folder / "measures.json").read_text(encoding="utf-8"))


def draw_picture(points: Sequence[Points], measures: Mapping[str, Any], path: Path) -> None:
    """Draws the points as PNG, 1200 pixels wide, written atomically."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    axes: Any = figure.add_axes((-0.04, -0.03, 1.06, 0.99), projection="3d")
    for i, dataset in enumerate(points):
        x, y, z = zip(*dataset.places, strict=True)
        mark, colour = SHAPES[i % len(SHAPES)][0], COLOURS[i % len(COLOURS)]
        axes.scatter(
            x, y, z, s=10, marker=mark, color=colour, alpha=0.8, linewidths=0, depthshade=False,
            label=f"{dataset.name} ({len(dataset.places)})",
        )  # fmt: skip
    labels = axis_labels(measures)
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, strict=True):
        axis.set_label_text(label, fontsize=9)
        axis.set_tick_params(labelsize=8)
        axis.set_pane_color("#f7f7f9")
    axes.view_init(elev=18, azim=-58)
    legend = figure.legend(
        loc="upper left", bbox_to_anchor=(0.02, 0.9), fontsize=9, markerscale=2, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    first, second = heading(measures)
    figure.text(0.03, 0.95, first, fontsize=12, fontweight="bold", parse_math=False)
    figure.text(0.03, 0.915, second, fontsize=9, color="#444444", parse_math=False)
    save(figure, path)


def draw_page(points: Sequence[Points], measures: Mapping[str, Any], path: Path) -> None:
    """Writes the points as one HTML file to turn, zoom and hover over; it needs no network."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, dataset in enumerate(points):
        x, y, z = zip(*dataset.places, strict=True)
        marker = {
            "size": 3, "opacity": 0.75, "color": COLOURS[i % len(COLOURS)],
            "symbol": SHAPES[i % len(SHAPES)][1],
        }  # fmt: skip
        figure.add_trace(
            go.Scatter3d(
                x=x, y=y, z=z, mode="markers", marker=marker,
                name=html.escape(f"{dataset.name} ({len(dataset.places)})"),
                text=[html.escape(text) for text in dataset.texts],  # plotly reads <b> and <br>
                hovertemplate="%{text}<extra>" + html.escape(dataset.name) + "</extra>",
            )
        )  # fmt: skip
    scene = {f"{axis}axis": {"title": {"text": label}}
             for axis, label in zip("xyz", axis_labels(measures), strict=True)}  # fmt: skip
    figure.update_layout(
        scene=scene, margin={"l": 0, "r": 0, "t": 0, "b": 0}, legend={"itemsizing": "constant"}
    )
    plot = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        default_height="75vh",
        config={"showSendToCloud": False, "displaylogo": False},
    )
    first, second = map(html.escape, heading(measures))
    style = "body{font:15px sans-serif;margin:1.5em}td,th{padding:.2em .9em;text-align:right}"
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{first}</title>\n'
        f"<style>{style}</style></head>\n<body>\n<h1>{first}</h1>\n<p>{second}</p>\n{plot}\n"
        f"{''.join(map(_html_table, measure_tables(measures)))}</body>\n</html>\n",
    )


def heading(measures: Mapping[str, Any]) -> tuple[str, str]:
    """Title and subtitle of the image."""
    counts = {d["num_rows"] for d in measures["datasets"]}
    s, projection = measures["settings"], measures["projection"]
    rows = f"{counts.pop()} rows" if len(counts) == 1 else "rows"
    what = {"row": "prompt and answer", "instruction": "prompt"}[s["text"]]
    how = {"pca": "PCA", "tsne": "t-SNE"}[projection["name"]]
    if "explained_variance" in projection:
        how += f", {sum(projection['explained_variance']):.0%} of the variance"
    else:
        how += f", perplexity {projection['perplexity']:.3g}, KL {projection['kl_divergence']:.3g}"
    return (
        f"Datasets as {measures['model']['name']} embeds them",
        f"{rows} of each; mean of the last hidden states of {what} "
        f"({s['template']} template); {how}",
    )


def axis_labels(measures: Mapping[str, Any]) -> list[str]:
    """Names of the three axes, with the variance they explain."""
    projection = measures["projection"]
    if "explained_variance" not in projection:
        return [f"t-SNE {i}" for i in (1, 2, 3)]
    return [f"PC {i} ({share:.1%})" for i, share in enumerate(projection["explained_variance"], 1)]


@dataclass(frozen=True)
class TextTable:
    """A small table: title, headings and cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def measure_tables(measures: Mapping[str, Any]) -> list[TextTable]:
    """Tables of datasets, silhouettes (of two datasets or more) and nearest neighbors."""
    names = [d["name"] for d in measures["datasets"]]
    asked = measures["settings"]["num_rows"]
    rows = [
        [
            d["name"],
            f"{d['num_rows']}" if d["num_rows"] == asked else f"{d['num_rows']} of {asked}",
            f"{d['num_tokens'] / d['num_rows']:.0f}",
            str(d["num_cut"]),
        ]
        for d in measures["datasets"]
    ]
    cut = f"cut at {measures['settings']['max_length']}"
    found = [TextTable("datasets", ["dataset", "rows", "tokens a row", cut], rows)]
    if measures["silhouette"]:
        found.append(_silhouettes(measures["silhouette"], names))
    n = measures["neighbors"]
    rows = [
        [name, *(f"{v:.1%} [{a:.1%}, {b:.1%}] / {c:.1%}" for v, a, b, c in
                 zip(n["share"][i], n["low"][i], n["high"][i], n["chance"][i], strict=True))]
        for i, name in enumerate(names)
    ]  # fmt: skip
    title = f"share of a row's {n['num_neighbors']} nearest ({n['metric']}, full space) / chance"
    return [*found, TextTable(title, ["rows of", *names], rows)]


def _silhouettes(silhouette: Mapping[str, Any], names: Sequence[str]) -> TextTable:
    rows = []
    for place, label in (("full", "full space"), ("projected", "three dimensions")):
        s = silhouette[place]
        low, high = s["interval"]
        each = [f"{s['datasets'][name]:.3f}" for name in names]
        chance = f"{s['shuffled']['mean']:.3f}, at most {s['shuffled']['largest']:.3f}"
        mean = f"{s['mean']:.3f} [{low:.3f}, {high:.3f}]"
        rows.append([f"{label}, {s['metric']}", mean, chance, *each])
    return TextTable("silhouette", ["distances", "mean", "labels shuffled", *names], rows)


def print_measures(measures: Mapping[str, Any]) -> None:
    """Prints the measures as tables."""
    from rich.text import Text

    console = terminal(400)
    for line in heading(measures):
        console.print(Text(line))
    for grid in measure_tables(measures):
        console.print()
        console.print(Text(grid.title))
        console.print(terminal_table(grid.columns, grid.columns[:1], grid.rows))
    if not measures["silhouette"]:
        console.print(f"\nsilhouette: {DASH} (one dataset cannot be apart from another)")
    console.print("\nin brackets: 95 % interval")


def _html_table(grid: TextTable) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>\n"

    rows = line("th", grid.columns) + "".join(line("td", row) for row in grid.rows)
    return f"<h2>{html.escape(grid.title)}</h2>\n<table>\n{rows}</table>\n"
