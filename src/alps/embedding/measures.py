"""Projections of embeddings, and measures of how separate datasets are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

Metric = Literal["cosine", "euclidean"]
Projection = Literal["pca", "tsne"]

NUM_SHUFFLES, NUM_RESAMPLES = 200, 1000
"""Label permutations for the chance level, and bootstrap resamples for intervals."""


def project(
    vectors: Float[np.ndarray, "n d"], projection: Projection, seed: int
) -> tuple[Float[np.ndarray, "n 3"], dict[str, Any]]:
    """Projects embeddings to three dimensions.

    Args:
        vectors: At least four embeddings.
        projection: `pca`, or `tsne` (cosine distances, initialized by PCA).
        seed: Seed of t-SNE, and of PCA if it is randomized (large inputs).

    Returns:
        Points, and facts: the explained variance ratio per axis, or t-SNE's divergence (nats) and
        perplexity.
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
    vectors: Float[np.ndarray, "n d"], labelings: Int[np.ndarray, "labelings n"], metric: Metric
) -> Float[np.ndarray, "labelings n"]:
    """Silhouettes (b - a) / max(a, b) in [-1, 1] under several labelings at once.

    a is the mean distance to other points with the same label, b the smallest mean distance to
    those with another label. Distances are computed once for all labelings, in blocks. A point
    alone with its label has silhouette 0, as in scikit-learn.

    Args:
        vectors: Points.
        labelings: Labels 0, 1, ... of the points; at least two labels, each with a point.
        metric: Distance.
    """
    from sklearn.metrics import pairwise_distances_chunked

    num_labels = int(labelings.max()) + 1
    members = np.eye(num_labels)[labelings]  # (labelings, n, labels)
    counts = members.sum(axis=1)  # (labelings, labels)
    columns = members.transpose(1, 0, 2).reshape(len(vectors), -1)

    def to_labels(distances: np.ndarray, start: int) -> np.ndarray:
        return (distances @ columns).reshape(len(distances), len(labelings), num_labels)

    blocks = pairwise_distances_chunked(vectors, metric=metric, reduce_func=to_labels)
    sums = np.concatenate(list(blocks)).transpose(1, 0, 2)  # (labelings, n, labels)
    own = labelings[..., None]
    size = np.take_along_axis(counts, labelings, axis=1)
    inner = np.take_along_axis(sums, own, axis=2)[..., 0] / np.maximum(size - 1, 1)
    means = sums / counts[:, None, :]
    np.put_along_axis(means, own, np.inf, axis=2)
    outer = means.min(axis=2)
    larger = np.maximum(np.maximum(inner, outer), np.finfo(float).tiny)
    return np.where(size > 1, (outer - inner) / larger, 0.0)


def neighbor_shares(
    vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], num_neighbors: int
) -> Float[np.ndarray, "n labels"]:
    """Share of each label among the nearest neighbors (cosine) of each point, without itself."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=num_neighbors, metric="cosine").fit(vectors)
    nearest = search.kneighbors(return_distance=False)  # excludes the point itself
    return np.eye(int(labels.max()) + 1)[labels[nearest]].mean(axis=1)


def bootstrap_interval(
    groups: Sequence[Float[np.ndarray, "_ ..."]], rng: np.random.Generator
) -> Float[np.ndarray, "2 ..."]:
    """95 % percentile interval of the overall mean, resampling within each group."""
    from scipy.stats import bootstrap

    shares = [len(g) / sum(map(len, groups)) for g in groups]
    samples = [g if len(g) > 1 else np.repeat(g, 2, axis=0) for g in groups]  # scipy needs two

    def overall_mean(*samples: np.ndarray, axis: int) -> Any:
        return sum(p * s.mean(axis=axis) for p, s in zip(shares, samples, strict=True))

    found = bootstrap(
        samples,
        overall_mean,
        n_resamples=NUM_RESAMPLES,
        batch=100,
        axis=0,
        method="percentile",
        rng=rng,
    )
    return np.stack(found.confidence_interval)


def separation(
    vectors: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
    metric: Metric,
    seed: int,
) -> dict[str, Any]:
    """Mean silhouette with a 95 % interval, and its chance level under shuffled labels.

    The interval resamples silhouettes within each dataset. Resampling points instead would make
    copies neighbors of each other.
    """
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(labels) for _ in range(NUM_SHUFFLES)]
    values, *chance = silhouettes(vectors, np.stack([labels, *shuffled]), metric)
    levels = np.array([c.mean() for c in chance])
    groups = [values[labels == i] for i in range(len(names))]
    return {
        "metric": metric,
        "mean": float(values.mean()),
        "interval": bootstrap_interval(groups, rng).tolist(),
        "datasets": {n: float(g.mean()) for n, g in zip(names, groups, strict=True)},
        "shuffled": {"mean": float(levels.mean()), "largest": float(levels.max())},
    }


def neighborhood(
    vectors: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
    num_neighbors: int,
    seed: int,
) -> dict[str, Any]:
    """Matrix of nearest-neighbor shares between datasets, with 95 % intervals and chance level.

    Entry (i, j) is the mean share of dataset j among the nearest neighbors of a point of i. Chance
    is j's share of all other points.
    """
    rng = np.random.default_rng(seed)
    k = min(num_neighbors, len(labels) - 1)
    shares = neighbor_shares(vectors, labels, k)
    counts = np.bincount(labels)
    groups = [shares[labels == i] for i in range(len(names))]
    low, high = np.stack([bootstrap_interval([g], rng) for g in groups], axis=1)
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
) -> tuple[Float[np.ndarray, "n 3"], dict[str, Any]]:
    """Projected points of all datasets, concatenated, and all measures.

    Args:
        parts: Dataset -> embeddings.
        projection: As in `project`.
        num_neighbors: Neighbors of a point, at most all others.
        seed: Seed of permutations, resamples and the projection.
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
