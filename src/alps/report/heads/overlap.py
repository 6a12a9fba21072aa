"""`alps heads compare`: the overlap of head sets, against the overlap of random sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.heads.geometry import Geometry, Head
from alps.heads.head_set import HeadSet
from alps.report.score_scale import score_array

if TYPE_CHECKING:
    import numpy as np

LONGEST_LABEL = 28


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The overlap of two head sets.

    Attributes:
        first: Name of one set.
        second: Name of the other.
        shared: Number of heads in both.
        jaccard: Jaccard index, in [0, 1].
        expected: Expected number of shared heads of two random sets of these sizes.
        p_value: Probability that two random sets share at least as many heads (hypergeometric
            test), if every head is equally likely. Scores differ between layers and depend on the
            base model of both sets, so sets exceed this chance without a common task: a small
            value only excludes uniformly random sets. Not corrected for the number of pairs.
        spearman: Rank correlation of the scores of all heads; None if a set has no scores or equal
            scores for all heads.
    """

    first: str
    second: str
    shared: int
    jaccard: float
    expected: float
    p_value: float
    spearman: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The overlap of several head sets for one model geometry.

    Attributes:
        names: Of the sets.
        metrics: Metric of each set, or None.
        counts: Number of chosen heads of each set.
        profiles: For each set, the number of chosen heads in each layer.
        geometry: Geometry of the models.
        shared_by_all: Heads in every set.
        pairs: All pairs, in the order of the names.
    """

    names: tuple[str, ...]
    metrics: tuple[str | None, ...]
    counts: tuple[int, ...]
    profiles: tuple[tuple[int, ...], ...]
    geometry: Geometry
    shared_by_all: tuple[Head, ...]
    pairs: tuple[Pair, ...]


def compare(sets: Sequence[tuple[str, HeadSet]]) -> Comparison:
    """Compares all pairs of head sets.

    Args:
        sets: Name and head set; `labels` derives names from paths.

    Raises:
        ValueError: If there are fewer than two sets, two with one name or different geometries, or
            a score is NaN or infinite.
    """
    _check_comparable(sets)
    geometry = sets[0][1].geometry
    scores = {name: score_array(head_set, name) for name, head_set in sets}
    pairs = tuple(
        _pair(a, b, scores[a[0]], scores[b[0]], geometry.total_heads)
        for a, b in combinations(sets, 2)
    )
    return Comparison(
        names=tuple(name for name, _ in sets),
        metrics=tuple(s.metric for _, s in sets),
        counts=tuple(len(s.heads) for _, s in sets),
        profiles=tuple(_profile(s) for _, s in sets),
        geometry=geometry,
        shared_by_all=tuple(sorted(set.intersection(*(set(s.heads) for _, s in sets)))),
        pairs=pairs,
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as lists and mappings."""
    c = comparison
    columns = zip(c.names, c.metrics, c.counts, c.profiles, strict=True)
    return {
        **asdict(c.geometry),
        "sets": [
            {"name": name, "metric": metric, "num_chosen": count, "chosen_per_layer": list(profile)}
            for name, metric, count, profile in columns
        ],
        "pairs": [asdict(pair) for pair in c.pairs],
        "shared_by_all": [list(head) for head in c.shared_by_all],
    }


def labels(paths: Sequence[Path]) -> list[str]:
    """A short unique name for each file.

    It is the file's stem, or its folder for a `heads.json`; parent folders are added until names
    differ. The middle of a long name is cut. Names that are still equal, as those of one file
    twice, get a number.
    """
    parts = [path.absolute().with_suffix("").parts for path in paths]
    parts = [p[:-1] if p[-1] == "heads" and len(p) > 2 else p for p in parts]
    length = dict.fromkeys(parts, 1)
    while True:
        name = {p: "/".join(p[-n:]) for p, n in length.items()}
        alike = Counter(name.values())
        grow = [p for p, n in length.items() if alike[name[p]] > 1 and n < len(p)]
        if not grow:
            break
        for p in grow:
            length[p] += 1
    short = [_cut(name[p]) for p in parts]
    repeats = [short[:i].count(name) for i, name in enumerate(short)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(short, repeats, strict=True)]


def _cut(name: str) -> str:
    half = LONGEST_LABEL // 2
    return name if len(name) <= LONGEST_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def _check_comparable(sets: Sequence[tuple[str, HeadSet]]) -> None:
    if len(sets) < 2:
        raise ValueError(f"a comparison needs two head sets or more, not {len(sets)}")
    names = [name for name, _ in sets]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two head sets are named {name}: give each a name of its own")
    first_name, first = sets[0]
    for name, head_set in sets[1:]:
        if head_set.geometry != first.geometry:
            raise ValueError(
                f"{first_name} has {_shape(first.geometry)} but {name} has "
                f"{_shape(head_set.geometry)}: only head sets of one model shape can be compared"
            )


def _shape(g: Geometry) -> str:
    return (
        f"{g.num_layers} layers x {g.num_heads} heads ({g.num_kv_heads} KV heads, "
        f"head size {g.head_dim})"
    )


def _pair(
    first: tuple[str, HeadSet],
    second: tuple[str, HeadSet],
    first_scores: np.ndarray | None,
    second_scores: np.ndarray | None,
    total: int,
) -> Pair:
    from scipy.stats import hypergeom

    a, b = set(first[1].heads), set(second[1].heads)
    shared = len(a & b)
    return Pair(
        first=first[0],
        second=second[0],
        shared=shared,
        jaccard=shared / len(a | b),
        expected=len(a) * len(b) / total,
        p_value=float(hypergeom.sf(shared - 1, total, len(a), len(b))),
        spearman=_spearman(first_scores, second_scores),
    )


def _spearman(first: np.ndarray | None, second: np.ndarray | None) -> float | None:
    import numpy as np
    from scipy.stats import rankdata

    if first is None or second is None:
        return None
    if first.min() == first.max() or second.min() == second.max():
        return None
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _profile(head_set: HeadSet) -> tuple[int, ...]:
    by_layer = head_set.by_layer()
    return tuple(len(by_layer.get(layer, ())) for layer in range(head_set.geometry.num_layers))
