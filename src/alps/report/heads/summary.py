"""`alps heads show`: a map of the chosen heads and the highest scores on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet
from alps.report.score_scale import checkpoint_names, color_scale, score_array, selection_summary
from alps.report.text_tables import terminal, terminal_table

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table
    from rich.text import Text

CHOSEN, OTHER = "#", "."
SHADES = ("#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#b5de2b")
"""viridis from dark to bright; importing matplotlib takes too long."""


def print_heads(head_set: HeadSet, top: int = 10) -> None:
    """Prints a head set.

    The map has a line for each layer: `#` is a chosen head, `.` another. On a color terminal, the
    background is the score.

    Args:
        head_set: The head set.
        top: Number of heads with the highest scores to list.

    Raises:
        ValueError: If a score is NaN or infinite.
    """
    scores = score_array(head_set)
    console = terminal(400)
    console.print(_heading(head_set))
    if scores is not None and console.color_system and not console.no_color:
        shades = color_scale(scores)
        largest = f" and above (largest {shades.largest:.1e})" if shades.capped else ""
        console.print(f"colour: score, dark {shades.low:.1e} to bright {shades.high:.1e}{largest}")
    console.print()
    for line in head_map(head_set, scores, console.width):
        console.print(line, no_wrap=True, crop=True)
    if scores is None:
        console.print("\nno scores were kept with these heads", markup=False)
    elif top > 0:
        console.print()
        console.print(_top_table(head_set, scores, top))


def head_map(head_set: HeadSet, scores: np.ndarray | None, width: int) -> list[Text]:
    """Lines of the map, none wider than `width` if possible.

    Heads that do not fit in one line continue in a block below.
    """
    g = head_set.geometry
    gap = " " if 1 < g.group_size < g.num_heads else ""
    label = len(str(g.num_layers - 1)) + 2
    room = width - label - 2 - len(str(g.num_heads))
    cell = 2 if 2 * g.num_heads + len(gap) * (g.num_kv_heads - 1) <= room else 1
    group_width = g.group_size * cell + len(gap)
    groups = max(1, (room + len(gap)) // group_width)
    block = groups * g.group_size
    lines = []
    for start in range(0, g.num_heads, block):
        heads = range(start, min(start + block, g.num_heads))
        lines += _block(head_set, scores, heads, cell, gap)
    return lines


def _heading(head_set: HeadSet) -> Text:
    from rich.text import Text

    g = head_set.geometry
    metric = head_set.metric or "no metric"
    lines = [f"{metric}: {selection_summary(head_set)}"]
    names = checkpoint_names(head_set)
    if names:
        lines.append(names)
    shared = f" in {g.num_kv_heads} KV groups" if g.group_size > 1 else ""
    lines.append(f"{g.num_layers} layers x {g.num_heads} heads{shared}")
    lines.append(f"{CHOSEN} is a chosen head; at the right: how many of the layer are")
    return Text("\n".join(lines))


def _block(
    head_set: HeadSet, scores: np.ndarray | None, heads: Sequence[int], cell: int, gap: str
) -> list[Text]:
    from rich.text import Text

    g = head_set.geometry
    chosen, by_layer = set(head_set.heads), head_set.by_layer()
    shades = None if scores is None else color_scale(scores)
    digits = len(str(g.num_layers - 1))
    # A label is above the first head of its group and must not touch the next label.
    title, step = Text(" " * (digits + 2)), max(1, g.group_size if gap else 4)
    for first in range(heads[0], heads[-1] + 1, step):
        count = min(step, heads[-1] + 1 - first)
        span = count * cell + len(gap)
        name = str(first)
        title.append((name if len(name) < span else "").ljust(span))
    title.rstrip()
    lines = [title]
    for layer in range(g.num_layers):
        line = Text(f"{layer:>{digits}}  ")
        for head in heads:
            if gap and head != heads[0] and head % g.group_size == 0:
                line.append(gap)
            mark = CHOSEN if (layer, head) in chosen else OTHER
            style = ""
            if shades is not None and scores is not None:
                style = _shade(shades.fraction(scores[layer, head]), mark == CHOSEN)
            line.append(mark.ljust(cell), style=style)
        line.append(f"  {len(by_layer.get(layer, ()))}")
        lines.append(line)
    return lines


def _shade(fraction: float, chosen: bool) -> str:
    index = min(int(fraction * len(SHADES)), len(SHADES) - 1)
    bright = index >= len(SHADES) // 2
    if chosen:
        return f"bold {'black' if bright else 'white'} on {SHADES[index]}"
    return f"{'#404040' if bright else '#909090'} on {SHADES[index]}"


def _top_table(head_set: HeadSet, scores: np.ndarray, top: int) -> Table:
    g, chosen = head_set.geometry, set(head_set.heads)
    ranked = sorted(g.heads(), key=lambda head: (-scores[head], head))
    rows = []
    for rank, (layer, head) in enumerate(ranked[:top], start=1):
        numbers = (rank, layer, head, g.kv_group(head))
        mark = CHOSEN if (layer, head) in chosen else ""
        rows.append([*map(str, numbers), f"{scores[layer, head]:.3e}", mark])
    headings = ("rank", "layer", "head", "KV group", "score", "chosen")
    return terminal_table(headings, left=("chosen",), rows=rows)
