import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from alps.embedding import measures
from alps.embedding.measures import measure, neighbor_shares, project, silhouettes


def clouds(apart: float, counts: tuple[int, ...] = (30, 20, 25), d: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    centers = np.eye(len(counts), d) * apart
    return [c + rng.normal(size=(n, d)) for c, n in zip(centers, counts, strict=True)]


def parts(apart: float, counts: tuple[int, ...] = (30, 20, 25)) -> dict[str, np.ndarray]:
    return dict(zip("abc", clouds(apart, counts), strict=False))


def silhouette_by_loop(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    values = []
    for i, own in enumerate(labels):
        mean = {}
        for label in set(labels.tolist()):
            others = [j for j in range(len(labels)) if labels[j] == label and j != i]
            if others:
                mean[label] = sum(distances[i, j] for j in others) / len(others)
        a, b = mean.get(own), min(v for k, v in mean.items() if k != own)
        values.append(0.0 if a is None else (b - a) / max(a, b))
    return np.array(values)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_silhouettes_are_those_of_the_definition_for_every_labeling(metric):
    rows = np.concatenate(clouds(2.0, (5, 4, 6)))
    labels = np.repeat([0, 1, 2], [5, 4, 6])
    alone = np.array([0] + [1] * 7 + [2] * 7)
    labelings = np.stack([labels, np.random.default_rng(1).permutation(labels), alone])
    found = silhouettes(rows, labelings, metric)
    distances = cdist(rows, rows, metric)
    for values, labeling in zip(found, labelings, strict=True):
        np.testing.assert_allclose(values, silhouette_by_loop(distances, labeling), atol=1e-12)
        expected = silhouette_samples(rows, labeling, metric=metric)
        np.testing.assert_allclose(values, expected, atol=1e-12)
    assert found[2, 0] == 0


def test_silhouettes_do_not_depend_on_the_size_of_the_blocks():
    from sklearn import config_context

    rows = np.concatenate(clouds(1.0, (200, 150, 170)))
    labels = np.repeat([0, 1, 2], [200, 150, 170])[None]
    whole = silhouettes(rows, labels, "euclidean")
    with config_context(working_memory=0.02):
        np.testing.assert_allclose(silhouettes(rows, labels, "euclidean"), whole, atol=1e-12)


def test_rows_that_are_all_the_same_have_no_silhouette():
    labels = np.array([[0, 0, 1, 1]])
    assert silhouettes(np.ones((4, 3)), labels, "euclidean").tolist() == [[0.0] * 4]


def test_neighbors_are_those_of_a_sort_and_never_the_row_itself():
    rows = np.concatenate(clouds(1.5, (8, 9, 7)))
    rows[3] = rows[2]  # a copy of a row is a neighbor, at distance 0
    labels = np.repeat([0, 1, 2], [8, 9, 7])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for k in (1, 5, 23):
        expected = []
        for i, row in enumerate(unit):
            others = [j for j in range(24) if j != i]
            nearest = sorted(others, key=lambda j: -float(row @ unit[j]))[:k]
            expected.append([sum(labels[j] == m for j in nearest) / k for m in range(3)])
        np.testing.assert_allclose(neighbor_shares(rows, labels, k), expected)


def test_clouds_apart_are_apart():
    points, found = measure(parts(30.0), "pca", 10, seed=0)
    assert points.shape == (75, 3)
    for place, metric in (("full", "cosine"), ("projected", "euclidean")):
        s = found["silhouette"][place]
        assert s["metric"] == metric and s["mean"] > 0.8
        assert s["interval"][0] < s["mean"] < s["interval"][1]
        assert s["shuffled"]["mean"] <= s["shuffled"]["largest"] < 0.05
        sizes = np.array([30, 20, 25])
        assert np.dot(sizes / 75, list(s["datasets"].values())) == pytest.approx(s["mean"])
    n = found["neighbors"]
    assert n["share"] == np.eye(3).tolist() == n["low"] == n["high"]
    assert sum(found["projection"]["explained_variance"]) > 0.9


def test_one_cloud_with_three_names_is_at_chance():
    found = measure(parts(0.0, (120, 100, 110)), "pca", 10, seed=0)[1]
    s, n = found["silhouette"]["full"], found["neighbors"]
    assert abs(s["mean"] - s["shuffled"]["mean"]) < 0.01
    assert s["interval"][0] < s["shuffled"]["largest"]
    np.testing.assert_allclose(n["share"], n["chance"], atol=0.08)
    np.testing.assert_allclose(np.sum(n["chance"], axis=1), 1)
    np.testing.assert_allclose(np.sum(n["share"], axis=1), 1)
    assert n["chance"][0] == pytest.approx([119 / 329, 100 / 329, 110 / 329])
    low, share, high = (np.array(n[name]) for name in ("low", "share", "high"))
    assert ((low < share) & (share < high)).all()


def test_the_interval_is_that_of_a_mean(monkeypatch):
    """Half its width is 1.96 standard errors, here known."""
    monkeypatch.setattr(measures, "NUM_RESAMPLES", 4000)
    both = parts(1.0, (300, 300))
    found = measure(both, "pca", 5, seed=3)[1]["silhouette"]["full"]
    rows = np.concatenate(list(both.values()))
    labels = np.repeat([0, 1], 300)
    values = silhouette_samples(rows, labels, metric="cosine")
    error = np.sqrt(sum(values[labels == i].var() / 300 for i in (0, 1)) / 4)
    low, high = found["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_one_dataset_has_neighbors_but_no_silhouette():
    found = measure({"a": clouds(1.0)[0]}, "pca", 10, seed=0)[1]
    assert found["silhouette"] is None
    assert found["neighbors"]["share"] == [[1.0]] == found["neighbors"]["chance"]


def test_an_interval_of_a_dataset_of_one_row_is_a_point():
    found = measure(parts(1.0, (1, 5)), "pca", 2, seed=0)[1]
    assert found["neighbors"]["low"][0] == found["neighbors"]["high"][0]
    low, high = found["silhouette"]["full"]["interval"]
    assert low < found["silhouette"]["full"]["mean"] < high


def test_few_rows_have_few_neighbors():
    found = measure(parts(1.0, (2, 3)), "pca", 10, seed=0)[1]["neighbors"]
    assert found["num_neighbors"] == 4
    assert found["share"] == [[0.25, 0.75], [0.5, 0.5]]


def test_pca_is_the_singular_value_decomposition_of_centered_rows():
    rows = np.concatenate(clouds(3.0))
    points, facts = project(rows, "pca", 0)
    centered = rows - rows.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :3] * values[:3]), atol=1e-8)
    shares = (values**2 / (values**2).sum())[:3]
    np.testing.assert_allclose(facts["explained_variance"], shares)


def test_tsne_keeps_clouds_apart_and_repeats_itself():
    both = parts(20.0, (20, 20))
    points, found = measure(both, "tsne", 5, seed=1)
    again = measure(both, "tsne", 5, seed=1)[0]
    np.testing.assert_array_equal(points, again)
    assert found["projection"]["name"] == "tsne"
    assert found["projection"]["perplexity"] == 13.0
    assert 0 < found["projection"]["kl_divergence"] < 2
    assert found["silhouette"]["projected"]["mean"] > 0.3


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    found = [measure(parts(1.0), "pca", 10, seed)[1]["silhouette"] for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0]["full"]["interval"] != found[2]["full"]["interval"]
    assert found[0]["full"]["mean"] == found[2]["full"]["mean"]
