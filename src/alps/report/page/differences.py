"""Paired differences on a page: of any two runs, and of methods with their seeds pooled.

Both are those of `alps.evals.statistics`, over the documents that the two models share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import NormalDist, mean
from typing import TYPE_CHECKING, Any

from alps.base.serialization import to_dict
from alps.evals.statistics import ALPHA, variance_components
from alps.report.outcomes import Score
from alps.report.page.page_run import PageRun
from alps.report.page.run_files import rounded

if TYPE_CHECKING:
    import numpy as np

MAX_PAIRS = 400_000
"""Pairs of runs on a page, over all benchmarks; about 3 MB."""

REFERENCES = {"full": "w/ full", "random": "Random of the same ratio", "base": "the base model"}
"""Method -> what a method is compared with."""


def scores_of(runs: Sequence[PageRun], benchmark: str) -> dict[int, Score]:
    """Index of a run -> its score with documents."""
    found = {}
    for i, run in enumerate(runs):
        score = run.outcome.score(benchmark) if run.outcome and run.result else None
        if isinstance(score, Score) and score.documents and score.deviations is not None:
            found[i] = score
    return found


def paired_half_widths(deviations: np.ndarray) -> np.ndarray:
    """Half widths of the 95 % intervals of all paired differences of one seed.

    The variance of a difference is |a - b|^2 of the deviations, as `variance_components` has it;
    here it follows from the Gram matrix, for all pairs at once.

    Args:
        deviations: (models, documents).

    Returns:
        (models, models).
    """
    import numpy as np

    gram = deviations @ deviations.T
    squares = gram.diagonal()
    distance = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
    return NormalDist().inv_cdf(1 - ALPHA / 2) * np.sqrt(distance)


def pairs(runs: Sequence[PageRun], benchmarks: Sequence[str]) -> dict[str, Any]:
    """Half widths of all pairs of runs that answered the same documents.

    Returns:
        `pools`: benchmark -> for each pool the indices of its runs and the rows of the lower
        triangle. `omitted`: sentences about pools with too many pairs.
    """
    import numpy as np

    pools: dict[str, list[dict[str, Any]]] = {}
    omitted, left = [], MAX_PAIRS
    for benchmark in benchmarks:
        scores = scores_of(runs, benchmark)
        by_pool: dict[str, list[int]] = {}
        for i, score in scores.items():
            assert score.documents is not None
            by_pool.setdefault(score.documents.pool, []).append(i)
        for members in by_pool.values():
            count = len(members) * (len(members) - 1) // 2
            if count > left:
                omitted.append(f"{benchmark}: {len(members)} runs make too many pairs for a page")
                continue
            left -= count
            half = paired_half_widths(np.stack([scores[i].deviations for i in members]))  # pyright: ignore[reportCallIssue, reportArgumentType]
            rows = [[rounded(h, 4) for h in half[k, :k]] for k in range(len(members))]
            pools.setdefault(benchmark, []).append({"runs": members, "half": rows})
    return {"pools": pools, "omitted": omitted}


def pooled(runs: Sequence[PageRun], benchmarks: Sequence[str]) -> list[dict[str, Any]]:
    """Differences of runs that differ by seed alone to w/ full, to Random and to the base model.

    Seeds are paired, and pooled as in the tables of `alps report`.
    """
    groups = list(_groups(runs))
    found = []
    for benchmark in benchmarks:
        scores = scores_of(runs, benchmark)
        for group in groups:
            for method in REFERENCES:
                reference = _reference(runs, groups, group, method)
                row = _difference(runs, scores, group, reference) if reference else None
                if row is not None:
                    found.append({"benchmark": benchmark, "to": method, **row})
    return found


def _groups(runs: Sequence[PageRun]) -> Iterator[tuple[int, ...]]:
    """Indices of runs that differ by seed alone."""
    known = [i for i, run in enumerate(runs) if run.run is not None and run.result is not None]
    settings = {i: _settings(runs[i]) for i in known}
    for _, members in groupby(sorted(known, key=lambda i: (settings[i], i)), settings.__getitem__):
        yield tuple(members)


def _settings(run: PageRun) -> str:
    """Settings except the seed, as text."""
    assert run.run is not None
    if run.is_base:
        return f"base {run.key}"
    parts = ("method", "model", "data", "optim")
    return json.dumps({p: to_dict(getattr(run.run, p)) for p in parts}, default=str)


def _reference(
    runs: Sequence[PageRun], groups: Sequence[tuple[int, ...]], own: tuple[int, ...], method: str
) -> tuple[int, ...] | None:
    """The one group of a method on the same model and data, for Random with the same ratio."""
    first = runs[own[0]].run
    assert first is not None
    if runs[own[0]].is_base:
        return None

    def fits(group: tuple[int, ...]) -> bool:
        other = runs[group[0]]
        run = other.run
        if run is None or group == own or (run.model, run.data) != (first.model, first.data):
            return False
        if method == "base" or other.is_base:
            return other.is_base and method == "base"
        if run.method.name != method or run.optim != first.optim:
            return False
        names = ("ratio", "scope") if method == "random" else ()
        return all(getattr(run.method, n, None) == getattr(first.method, n, None) for n in names)

    found = [group for group in groups if fits(group)]
    return found[0] if len(found) == 1 else None


def _difference(
    runs: Sequence[PageRun],
    scores: Mapping[int, Score],
    group: Sequence[int],
    reference: Sequence[int],
) -> dict[str, Any] | None:
    """Over the seeds that both have; a base model is compared with every seed."""
    ours = {_seed(runs[i]): i for i in group if i in scores}
    theirs = {_seed(runs[i]): i for i in reference if i in scores}
    if runs[reference[0]].is_base and theirs:
        theirs = dict.fromkeys(ours, next(iter(theirs.values())))
    values, found = [], []
    for seed in (s for s in ours if s in theirs):
        one, other = scores[ours[seed]], scores[theirs[seed]]
        assert one.documents is not None and other.documents is not None
        if one.documents.pool != other.documents.pool:
            return None
        assert one.deviations is not None and other.deviations is not None
        values.append(one.value - other.value)
        found.append({one.documents.pool: one.deviations - other.deviations})
    if not values:
        return None
    center, variance = mean(values), variance_components(values, found)
    low, high = variance.interval(center)
    return {
        "runs": list(group),
        "reference": list(reference),
        "value": rounded(center),
        "low": rounded(low),
        "high": rounded(high),
        "p": rounded(variance.p_value(center), 3),
        "seeds": len(values),
    }


def _seed(run: PageRun) -> int | None:
    return None if run.is_base or run.run is None else run.run.seed
