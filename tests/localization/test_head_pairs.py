import numpy as np
import pytest
import torch

from alps.heads.geometry import Geometry
from alps.localization.head_pairs import head_pairs
from alps.models.qkv import KVGroup
from alps.scores import load_score, metric_names

GEOMETRY = Geometry(num_layers=1, num_heads=6, num_kv_heads=2, head_dim=4)
PER, SIZE, WIDTH = 3, 4, 10


def group(seed: int, biases: bool = False, dtype: torch.dtype = torch.float32) -> KVGroup:
    generator = torch.Generator().manual_seed(seed)
    rows = (PER * SIZE, SIZE, SIZE)
    weights = tuple(torch.randn(r, WIDTH, generator=generator).to(dtype) for r in rows)
    own = tuple(torch.randn(r, generator=generator).to(dtype) for r in rows) if biases else None
    return KVGroup(weights, own)


def flat(base: KVGroup, task: KVGroup, matrix: str, bias: str = "ignore") -> list[list[np.ndarray]]:
    return [list(p.flat()) for p in head_pairs(base, task, GEOMETRY, matrix, bias)]


def doubles(checkpoint: KVGroup, bias: bool = False) -> list[np.ndarray]:
    found = [w.double().numpy() for w in checkpoint.weights]
    if bias:
        columns = [b.double().numpy()[:, None] for b in checkpoint.biases]
        found = [np.hstack(pair) for pair in zip(found, columns, strict=True)]
    return found


def product(checkpoint: KVGroup, head: int, bias: bool = False) -> np.ndarray:
    """Eq. 5, W_q (W_k^T W_v) with d_model x d_head matrices, row after row."""
    q, k, v = (w.T for w in doubles(checkpoint, bias))
    return (q[:, SIZE * head : SIZE * (head + 1)] @ (k.T @ v)).ravel(order="C")


def concat(checkpoint: KVGroup, head: int, bias: bool = False) -> np.ndarray:
    q, k, v = doubles(checkpoint, bias)
    return np.concatenate([q[SIZE * head : SIZE * (head + 1)].ravel(), k.ravel(), v.ravel()])


REFERENCE = {"product": product, "concat": concat}


@pytest.mark.parametrize("bias", ["ignore", "include"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_every_head_is_its_matrix_flattened_row_after_row(matrix, biases, bias):
    pair = group(0, biases), group(1, biases)
    found = flat(*pair, matrix, bias)
    assert len(found) == PER
    for head, both in enumerate(found):
        for vector, checkpoint in zip(both, pair, strict=True):
            expected = REFERENCE[matrix](checkpoint, head, biases and bias == "include")
            assert vector.dtype == np.float64
            np.testing.assert_allclose(vector, expected, rtol=1e-12, atol=1e-13)


def test_a_product_is_not_read_column_after_column():
    """A square head of as many inputs as rows would hide it from a test of sizes."""
    expected = product(group(0), 1)
    found = flat(group(0), group(1), "product")[1][0]
    transposed = expected.reshape(WIDTH, SIZE).T.ravel()
    assert np.allclose(found, expected) and not np.allclose(found, transposed)


def test_concatenated_weights_are_those_that_are_stored():
    base = group(0, dtype=torch.bfloat16)
    np.testing.assert_array_equal(flat(base, base, "concat")[2][0], concat(base, 2))


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_half_precision_is_made_double_before_anything_is_computed(matrix):
    base = group(0, dtype=torch.bfloat16)
    wide = KVGroup(tuple(w.double() for w in base.weights), None)
    for a, b in zip(flat(base, base, matrix), flat(wide, wide, matrix), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("matrix", ["product", "concat"])
def test_ignored_biases_are_not_looked_at(matrix):
    base, task = group(0, biases=True), group(1, biases=True)
    nan = tuple(b * float("nan") for b in base.biases)
    expected = flat(base, task, matrix)
    for a, b in zip(flat(KVGroup(base.weights, nan), task, matrix), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_k_and_v_are_held_once_for_the_heads_that_share_them():
    pairs = list(head_pairs(group(0), group(1), GEOMETRY, "concat", "ignore"))
    shared = [pair.segments[1:] for pair in pairs]
    assert all(a is b for parts in shared for a, b in zip(parts, shared[0], strict=True))
    assert [[part.shared for part in pair.segments] for pair in pairs] == [
        [False, True, True]
    ] * PER


def test_heads_of_their_own_k_and_v_share_nothing():
    own = Geometry(num_layers=1, num_heads=2, num_kv_heads=2, head_dim=4)
    weights = tuple(torch.randn(4, WIDTH) for _ in range(3))
    (pair,) = head_pairs(KVGroup(weights, None), KVGroup(weights, None), own, "concat", "ignore")
    assert not any(part.shared for part in pair.segments)


@pytest.mark.parametrize("metric", metric_names())
def test_heads_scored_in_any_order_score_the_same(metric):
    """Sums of shared parts are kept between heads."""
    both = group(0), group(1)
    score = load_score(metric)
    forward = [score(p) for p in head_pairs(*both, GEOMETRY, "concat", "ignore")]
    backward = [score(p) for p in reversed(list(head_pairs(*both, GEOMETRY, "concat", "ignore")))]
    assert forward == backward[::-1]
