"""What float32 leaves of the cosine between two nearly uniform softmaxes (Table 2, C.S.).

The authors' script computes 1 - cos of float32 softmaxes in float32, where numbers just below 1 are
6e-8 apart; a fine-tune can move the softmaxes by no more than a few such steps. For both matrices,
this prints how many heads score exactly 0 or less, and how far the ranking agrees with float64's;
then how far the float64 ranking agrees with those of the other scores.

    alps train method=full evals=none
    python benchmarks/cosine_rounding.py base=smollm2_135m_q4 task=KEY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from alps.config.build import model_choice
from alps.localization.engine import localize, open_pair
from alps.localization.head_pairs import head_pairs
from alps.localization.scores import Scores
from alps.pipeline.checkpoints import ResolvedCheckpoint, resolve_checkpoint

OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "cosine of weights": ("cosine", {"of": "weights"}),
    "kl": ("kl", {}),
    "euclidean": ("euclidean", {}),
    "pad": ("pad", {}),
}


def distance(base: torch.Tensor, task: torch.Tensor) -> float:
    """1 - cos of two softmaxes as the script has it, in the tensors' type."""
    p, q = (torch.softmax(x, 0).numpy() for x in (base, task))
    return float(1.0 - np.dot(p, q) / (np.linalg.norm(p) * np.linalg.norm(q)))


def in_type(
    base: ResolvedCheckpoint, task: ResolvedCheckpoint, matrix: str, rounded: bool = False
) -> np.ndarray:
    """Scores in float32, of weights that are rounded to bfloat16 before or are not."""
    pair = open_pair(base.path, task.path, base.geometry or task.geometry)
    g = pair[0].geometry
    table = np.zeros((g.num_layers, g.num_heads))
    for layer in range(g.num_layers):
        groups = (tuple(q.group(layer, i) for q in pair) for i in range(g.num_kv_heads))
        heads = (head for group in groups for head in head_pairs(*group, g, matrix, "ignore"))
        for head, one in enumerate(heads):
            both = [torch.from_numpy(x).float() for x in one.flat()]
            table[layer, head] = distance(*(x.bfloat16().float() if rounded else x for x in both))
    return table


def agreement(exact: Scores, other: np.ndarray) -> str:
    """Heads that both choose, and the rank correlation of all scores."""
    ranked = Scores(other, exact.metric, exact.geometry)
    shared = set(exact.top(0.1).heads) & set(ranked.top(0.1).heads)
    return f"{len(shared)} / {spearmanr(exact.values.ravel(), other.ravel()).statistic:.2f}"


def main() -> None:
    """Prints two Markdown tables."""
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    runs = Path(given.get("output_dir", "outputs"))
    base, task = (
        resolve_checkpoint(name, given[name], runs, model_choice) for name in ("base", "task")
    )
    shape = base.geometry or task.geometry

    def scores(metric: str, **settings: str) -> Scores:
        return localize(base.path, task.path, metric, geometry=shape, **settings)

    exact = {m: scores("cosine", matrix=m, of="distribution") for m in ("product", "concat")}
    ways = {
        ("product", "float32"): in_type(base, task, "product"),
        ("concat", "float32"): in_type(base, task, "concat"),
        ("concat", "float32 of bfloat16 weights"): in_type(base, task, "concat", rounded=True),
        ("concat", "`compat=authors`"): scores("cosine", compat="authors").values,
    }
    print("| matrix | computed in | score 0 | below 0 | different scores | median | float64 |")
    print("|---|---|---|---|---|---|---|")
    for (matrix, way), table in ways.items():
        cells = [matrix, way, f"{(table == 0).mean():.1%}", f"{(table < 0).mean():.1%}"]
        cells += [f"{len(np.unique(table))}", f"{np.median(table):.1e}"]
        print(f"| {' | '.join([*cells, agreement(exact[matrix], table)])} |")
    print(f"\n| matrix | median, float64 | {' | '.join(OTHERS)} |\n|{'---|' * (len(OTHERS) + 2)}")
    for matrix, found in exact.items():
        cells = [matrix, f"{np.median(found.values):.1e}"]
        for metric, options in OTHERS.values():
            cells.append(agreement(found, scores(metric, matrix=matrix, **options).values))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
