"""Does a score pick the same heads again when only the seed of the task model changes?

A score that follows the task should agree between two fine-tunes of the same data with other
seeds, and less between two tasks. For every metric, matrix and ground space, this prints the
overlap of the top 10 % and the rank correlation of two seeds, of two tasks, and with the plain size
of the change (`euclidean` on the same matrix).

    alps train -m method=full data=mini_math,mini_code seed=0,1 evals=none
    python benchmarks/stability.py base=smollm2_135m_q4 math=KEY,KEY code=KEY,KEY
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

from scipy.stats import spearmanr

from alps.config.build import model_choice
from alps.localization.engine import localize_metrics
from alps.localization.scores import Scores
from alps.pipeline.checkpoints import ResolvedCheckpoint, resolve_checkpoint

VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "pad, index": ("pad", {"ground": "index"}),
    "pad, values": ("pad", {"ground": "values"}),
    "pad, weights": ("pad", {"ground": "weights"}),
    "kl": ("kl", {}),
    "euclidean": ("euclidean", {}),
    "cosine, distribution": ("cosine", {"of": "distribution"}),
    "cosine, weights": ("cosine", {"of": "weights"}),
}


def scores(base: ResolvedCheckpoint, task: ResolvedCheckpoint, matrix: str) -> dict[str, Scores]:
    """All variants of one pair."""
    shape = base.geometry or task.geometry
    found = {}
    for name, (metric, options) in VARIANTS.items():
        asked = {metric: options}
        done = localize_metrics(base.path, task.path, asked, geometry=shape, matrix=matrix)
        found[name] = done[metric]
    return found


def agreement(one: Scores, other: Scores, ratio: float = 0.1) -> str:
    """Heads that both choose, and the rank correlation of all scores."""
    shared = set(one.top(ratio).heads) & set(other.top(ratio).heads)
    rank = spearmanr(one.values.ravel(), other.values.ravel()).statistic
    return f"{len(shared)} / {rank:.2f}"


def main() -> None:
    """Prints one Markdown table."""
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    runs = Path(given.get("output_dir", "outputs"))
    base = resolve_checkpoint("base", given["base"], runs, model_choice)
    tasks = {
        name: [resolve_checkpoint(name, key, runs, model_choice) for key in given[name].split(",")]
        for name in ("math", "code")
    }
    geometry = tasks["math"][0].geometry
    assert geometry is not None
    print(f"top {geometry.count(0.1)} of {geometry.total_heads} heads: shared / Spearman; "
          f"by chance {geometry.count(0.1) ** 2 / geometry.total_heads:.1f} / 0\n")  # fmt: skip
    print("| matrix | score | math, two seeds | code, two seeds | math and code | and euclidean |")
    print("|---|---|---|---|---|---|")
    for matrix in ("product", "concat"):
        math = [scores(base, place, matrix) for place in tasks["math"]]
        code = [scores(base, place, matrix) for place in tasks["code"]]
        for name in VARIANTS:
            across = [agreement(m[name], c[name]) for m, c in product(math[:1], code[:1])]
            cells = [matrix, name, agreement(math[0][name], math[1][name])]
            cells += [agreement(code[0][name], code[1][name]), *across]
            cells += [agreement(math[0][name], math[0]["euclidean"])]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
