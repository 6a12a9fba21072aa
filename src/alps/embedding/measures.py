"""Projections of embeddings, and numbers for what their picture suggests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

Metric = Literal["cosine", "euclidean"]
Projection = Literal["pca", "tsne"]

NUM_SHUFFLES, NUM_RESAMPLES = 200, 1000
"""Of labels for the chance level, and of rows for the intervals."""


def project(
    vectors: Float[np.ndarray, "rows d"], projection: Projection, seed: int
) -> tuple[Float[np.ndarray, "rows 3"], dict[str, Any]]:
    """The rows in three dimensions, and how much of them is left there.

    Args:
        vectors: At least four rows.
        projection: `pca`, or `tsne` (cosine distances, started from the PCA).
        seed: Of t-SNE, and of PCA where it is randomized (large inputs).

    Returns:
        Points, and facts: the share of variance each axis explains, or t-SNE's divergence (nats)
        and perplexity.
    """
    if projection == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(n_components=3, random_state=seed)
        points = pca.fit_transform(vectors)
        return points, {"name": "pca", "explained_variance": pca.explained_variance_ratio_.tolist()}
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(3, perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    points = tsne.fit_transform(vectors)
    facts = {"kl_divergence": float(tsne.kl_divergence_), "perplexity": perplexity}
    return points, {"name": "tsne", **facts}


def silhouettes(
    vectors: Float[np.ndarray, "rows d"], labelings: Int[np.ndarray, "runs rows"], metric: Metric
) -> Float[np.ndarray, "runs rows"]:
    """Each row's silhouette (b - a) / max(a, b) in [-1, 1], for several labelings at once.

    a is the mean distance to the other rows of the label, b the smallest mean distance to those of
    another. Distances are computed once, block by block, whatever the number of labelings. A row
    alone with its label has 0, as in scikit-learn.

    Args:
        vectors: Rows.
        labelings: Labels 0, 1, ... of the rows; two labels or more, none without rows.
        metric: Distance.
    """
    from sklearn.metrics import pairwise_distances_chunked

    num_labels = int(labelings.max()) + 1
    members = np.eye(num_labels)[labelings]  # (runs, rows, labels)
    counts = members.sum(axis=1)  # (runs, labels)
    columns = members.transpose(1, 0, 2).reshape(len(vectors), -1)

    def to_labels(distances: np.ndarray, start: int) -> np.ndarray:
        return (distances @ columns).reshape(len(distances), len(labelings), num_labels)

    blocks = pairwise_distances_chunked(vectors, metric=metric, reduce_func=to_labels)
    sums = np.concatenate(list(blocks)).transpose(1, 0, 2)  # (runs, rows, labels)
    own = labelings[..., None]
    size = np.take_along_axis(counts, labelings, axis=1)
    inner = np.take_along_axis(sums, own, axis=2)[..., 0] / np.maximum(size - 1, 1)
    means = sums / counts[:, None, :]
    np.put_along_axis(means, own, np.inf, axis=2)
    outer = means.min(axis=2)
    larger = np.maximum(np.maximum(inner, outer), np.finfo(float).tiny)
    return np.where(size > 1, (outer - inner) / larger, 0.0)


def neighbor_shares(
    vectors: Float[np.ndarray, "rows d"], labels: Int[np.ndarray, " rows"], num_neighbors: int
) -> Float[np.ndarray, "rows labels"]:
    """Which share of each row's nearest neighbors (cosine, itself left out) has which label."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=num_neighbors, metric="cosine").fit(vectors)
    nearest = search.kneighbors(return_distance=False)  # without an argument, a row is not its own
    return np.eye(int(labels.max()) + 1)[labels[nearest]].mean(axis=1)


def separation(
    vectors: Float[np.ndarray, "rows d"],
    labels: Int[np.ndarray, " rows"],
    names: Sequence[str],
    metric: Metric,
    seed: int,
) -> dict[str, Any]:
    """Mean silhouette, with an interval and what shuffled labels give.

    The interval (95 %) resamples rows within their datasets and leaves each row's silhouette as it
    is: drawing rows twice would make neighbors of copies.
    """
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(labels) for _ in range(NUM_SHUFFLES)]
    values, *chance = silhouettes(vectors, np.stack([labels, *shuffled]), metric)
    levels = np.array([c.mean() for c in chance])
    groups = [values[labels == i] for i in range(len(names))]
    draws = [np.concatenate([rng.choice(g, len(g)) for g in groups]).mean()
             for _ in range(NUM_RESAMPLES)]  # fmt: skip
    return {
        "metric": metric,
        "mean": float(values.mean()),
        "interval": np.percentile(draws, [2.5, 97.5]).tolist(),
        "datasets": {n: float(g.mean()) for n, g in zip(names, groups, strict=True)},
        "shuffled": {"mean": float(levels.mean()), "largest": float(levels.max())},
    }


def neighborhood(
    vectors: Float[np.ndarray, "rows d"],
    labels: Int[np.ndarray, " rows"],
    names: Sequence[str],
    num_neighbors: int,
    seed: int,
) -> dict[str, Any]:
    """Whose rows are nearest to whose: a matrix of shares, with intervals (95 %) and chance.

    Entry (i, j) is the mean share of dataset j among the nearest neighbors of a row of i. Chance is
    j's share of all other rows.
    """
    rng = np.random.default_rng(seed)
    k = min(num_neighbors, len(labels) - 1)
    shares = neighbor_shares(vectors, labels, k)
    counts = np.bincount(labels)
    groups = [shares[labels == i] for i in range(len(names))]
    draws = [
        np.stack([g[rng.integers(len(g), size=len(g))].mean(axis=0) for g in groups])
        for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return {
        "metric": "cosine",
        "num_neighbors": k,
        "datasets": list(names),
        "share": np.stack([g.mean(axis=0) for g in groups]).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "chance": ((counts - np.eye(len(names))) / (len(labels) - 1)).tolist(),
    }


def measure(
    parts: Mapping[str, Float[np.ndarray, "_ d"]],
    projection: Projection,
    num_neighbors: int,
    seed: int,
) -> tuple[Float[np.ndarray, "rows 3"], dict[str, Any]]:
    """Points of all datasets, one behind the other, and every number about them.

    Args:
        parts: Embeddings of each dataset, by name.
        projection: As in `project`.
        num_neighbors: Neighbors of a row; fewer where there are not so many rows.
        seed: Of whatever is drawn.
    """
    names = list(parts)
    vectors = np.concatenate(list(parts.values())).astype(np.float64)
    labels = np.repeat(np.arange(len(names)), [len(v) for v in parts.values()])
    points, facts = project(vectors, projection, seed)
    several = len(names) > 1
    return points, {
        "projection": facts,
        "silhouette": {
            "full": separation(vectors, labels, names, "cosine", seed),
            "projected": separation(points, labels, names, "euclidean", seed),
        }
        if several
        else None,
        "neighbors": neighborhood(vectors, labels, names, num_neighbors, seed),
    }
