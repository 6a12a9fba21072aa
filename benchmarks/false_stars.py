"""How often does a table find a difference between two methods that do not differ?

Simulated answers of two methods to the same documents: the score of each trained model is off by a
normal number of its own (the seed's), a fixed share of all answers differs between the two models
of a seed, and on average neither method is better. With `interaction`, each document also favours
one method over the other by a normal number, the same for all seeds.

The first column is the bootstrap over documents of the mean over seeds, which alps 0.1 used; the
second is Student's t over seeds alone; the last is what tables use now (`alps.evals.statistics`).

    python benchmarks/false_stars.py
    python benchmarks/false_stars.py --interaction 0.15
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alps.evals.statistics import ALPHA, Ratio, deviations, variance_components

SEEDS, DOCUMENTS = (2, 3, 5), (100, 1319, 14_042)
RESAMPLES = 1000
BOTH_RIGHT = 0.5
"""Of the documents on which the two models agree."""


def answers(
    rng: np.random.Generator, seeds: int, documents: int, asked: Namespace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right or wrong of both methods, each of shape (seeds, documents)."""
    tilt = rng.normal(0, asked.spread, (2, seeds, 1))
    favour = rng.normal(0, asked.interaction, documents) if asked.interaction else 0.0
    lean = tilt[0] - tilt[1] + favour
    only_first = np.clip((asked.differing + lean) / 2, 0, 1)
    only_second = np.clip((asked.differing - lean) / 2, 0, 1)
    drawn = rng.random((seeds, documents))
    agree = rng.random((seeds, documents)) < BOTH_RIGHT
    first, second = drawn < only_first, drawn > 1 - only_second
    differ = first | second
    return np.where(differ, first, agree).astype(float), np.where(differ, second, agree).astype(
        float
    )


def false_stars(seeds: int, documents: int, asked: Namespace) -> NDArray[np.float64]:
    """Share of draws in which each way of computing an interval excludes zero."""
    rng = np.random.default_rng([asked.seed, seeds, documents])
    times = rng.multinomial(documents, np.full(documents, 1 / documents), RESAMPLES)
    times = times.astype(np.float32) / documents
    found = np.zeros(3)
    for _ in range(asked.draws):
        first, second = answers(rng, seeds, documents, asked)
        differences = (first - second).mean(axis=1)
        difference = differences.mean()
        drawn = times @ (first - second).mean(axis=0).astype(np.float32)
        low, high = np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
        error = differences.std(ddof=1) / np.sqrt(seeds)
        pairs = zip(first, second, strict=True)
        each = [{"": _deviations(one) - _deviations(other)} for one, other in pairs]
        now = variance_components(differences.tolist(), each).interval(difference)
        found += (
            low > 0 or high < 0,
            abs(difference) > stats.t.isf(ALPHA / 2, seeds - 1) * error,
            now.excludes_zero,
        )
    return found / asked.draws


def _deviations(right: NDArray[np.float64]) -> NDArray[np.float64]:
    found = deviations(Ratio(right))
    assert found is not None
    return found


def main() -> None:
    """Prints one Markdown table."""
    parser = ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="simulated comparisons a cell")
    parser.add_argument("--spread", type=float, default=0.01, help="of a score over seeds")
    parser.add_argument("--differing", type=float, default=0.2, help="share of differing answers")
    parser.add_argument("--interaction", type=float, default=0.0, help="of method and document")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| seeds | documents | bootstrap over documents | t over seeds | now |")
    print("|---|---|---|---|---|")
    for seeds in SEEDS:
        for documents in DOCUMENTS:
            shares = false_stars(seeds, documents, asked)
            text = " | ".join(f"{100 * share:.1f} %" for share in shares)
            print(f"| {seeds} | {documents} | {text} |", flush=True)


if __name__ == "__main__":
    main()
