import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from alps.heads import head_pair
from alps.heads.head_pair import (
    LARGE_CHANGE,
    HeadPair,
    Segment,
    aligned_empty,
    cumulative_sums,
    row_blocks,
)
from alps.scores import kl, load_score, pad

EVERY_SCORE = [
    ("pad", {}),
    ("pad", {"tau": 0.3}),
    ("pad", {"ground": "values"}),
    ("pad", {"ground": "weights"}),
    ("kl", {}),
    ("kl", {"direction": "task_base", "tau": 2.0}),
    ("cosine", {"of": "distribution"}),
    ("cosine", {"of": "weights"}),
    ("euclidean", {}),
]


def pair(shift: float, shape=(6, 9), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    base = random.normal(size=shape)
    return base, base + shift * random.normal(size=shape)


def three_parts(shift: float, shared: bool) -> tuple[HeadPair, HeadPair]:
    """Parts of different sizes and levels, and the one part that holds the same numbers."""
    parts = []
    for seed, (shape, level) in enumerate([((7, 3), 0.0), ((5, 1), 4.0), ((2, 8), -3.0)]):
        base, task = pair(shift, shape, seed)
        parts.append(Segment(base + level, task + level, shared=shared and seed > 0))
    joined = HeadPair(*parts)
    base, task = joined.flat()
    return joined, HeadPair.of(base[None], task[None])


def exact_softmax(x: np.ndarray, tau: float = 1.0) -> np.ndarray:
    mass = np.exp((x.astype(np.longdouble) - x.max()) / tau)
    return mass / mass.sum()


def exact_pad(base: np.ndarray, task: np.ndarray, tau: float = 1.0) -> float:
    p, q = exact_softmax(base.ravel(), tau), exact_softmax(task.ravel(), tau)
    return float(np.abs(np.cumsum(q - p)[:-1]).sum() / (base.size - 1))


def exact_kl(base: np.ndarray, task: np.ndarray, tau: float = 1.0) -> float:
    """Sum of q - p - p log(q / p); where q is near p, no term is larger than its change squared."""
    x, y = (m.ravel().astype(np.longdouble) / tau for m in (base, task))
    log_sum_x, log_sum_y = (m.max() + np.log(np.exp(m - m.max()).sum()) for m in (x, y))
    log_ratio = (y - x) - (log_sum_y - log_sum_x)
    p, q = np.exp(x - log_sum_x), np.exp(y - log_sum_y)
    near = np.where(np.abs(log_ratio) < 1, log_ratio, 0)
    return float(np.where(near, p * (np.expm1(near) - near), q - p - p * log_ratio).sum())


def test_a_matrix_is_read_row_after_row():
    head = HeadPair.of([[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]])
    base, task = head.flat()
    assert base.tolist() == [1, 2, 3, 4, 5, 6] and task.tolist() == [7, 8, 9, 10, 11, 12]
    assert base.dtype == np.float64 and head.size == 6


def test_parts_follow_one_another_and_each_is_read_down_its_columns():
    first = Segment(np.array([[1.0, 3.0], [2.0, 4.0]]), np.zeros((2, 2)))
    head = HeadPair(first, Segment(np.array([[5.0], [6.0]]), np.ones((2, 1))))
    base, task = head.flat()
    assert base.tolist() == [1, 2, 3, 4, 5, 6] and task.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e-6, 1e-2, 3.0])
@pytest.mark.parametrize(("metric", "options"), EVERY_SCORE)
def test_three_parts_score_like_the_one_they_make_up(metric, options, shift, shared):
    parts, whole = three_parts(shift, shared)
    expected = load_score(metric)(whole, **options)
    assert (expected > 0) == (shift > 0)
    assert load_score(metric)(parts, **options) == pytest.approx(expected, abs=1e-18, rel=1e-9)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shift", [1e-6, 1e-3])
def test_parts_of_different_levels_keep_the_digits_of_a_small_change(shift, shared):
    parts, _ = three_parts(shift, shared)
    assert pad.score(parts) == pytest.approx(exact_pad(*parts.flat()), abs=0, rel=1e-8)
    assert kl.score(parts) == pytest.approx(exact_kl(*parts.flat()), abs=0, rel=1e-8)


def test_a_shared_part_gives_every_head_its_own_score():
    kv = Segment(*pair(1e-2, (4, 1), 9), shared=True)
    for seed in range(3):
        own = Segment(*pair(1e-2, (5, 1), seed))
        fresh = Segment(kv.base, kv.task)
        for tau in (1.0, 0.5):
            again = pad.score(HeadPair(own, kv), tau=tau)
            assert again == pytest.approx(pad.score(HeadPair(own, fresh), tau=tau), rel=1e-12)


@pytest.mark.parametrize(("metric", "options"), EVERY_SCORE)
def test_scores_do_not_depend_on_the_size_of_blocks(monkeypatch, metric, options):
    for shift in (1e-4, 3.0):
        whole = load_score(metric)(HeadPair.of(*pair(shift, (13, 40))), **options)
        monkeypatch.setattr(head_pair, "BLOCK", 16)
        assert len(list(row_blocks(np.zeros((40, 13))))) == 40
        split = load_score(metric)(HeadPair.of(*pair(shift, (13, 40))), **options)
        assert split == pytest.approx(whole, abs=0, rel=1e-10)
        monkeypatch.undo()


@pytest.mark.parametrize("shape", [(260, 300), (1, 70_000), (70_000, 1)])
def test_a_matrix_of_several_true_blocks_keeps_its_digits(shape):
    base, task = pair(1e-5, shape)
    head = HeadPair.of(base, task)
    assert len(list(row_blocks(head.segments[0].base))) > 1 or shape[0] == 70_000
    assert pad.score(head) == pytest.approx(exact_pad(base, task), abs=0, rel=1e-8)
    assert kl.score(head) == pytest.approx(exact_kl(base, task), abs=0, rel=1e-8)


@pytest.mark.parametrize("tau", [0.25, 1.0, 3.0])
def test_the_switch_to_plain_softmaxes_is_where_it_says_and_changes_nothing(tau):
    base, task = pair(0.1)
    at = task.copy()
    at[2, 3] = base[2, 3] + LARGE_CHANGE * tau * (1 - 1e-12)
    beyond = at.copy()
    beyond[2, 3] = base[2, 3] + LARGE_CHANGE * tau * (1 + 1e-12)
    assert HeadPair.of(base, at).softmax(tau) is not None
    assert HeadPair.of(base, beyond).softmax(tau) is None
    for metric in (pad, kl):
        low = metric.score(HeadPair.of(base, at), tau=tau)
        high = metric.score(HeadPair.of(base, beyond), tau=tau)
        assert high == pytest.approx(low, abs=0, rel=1e-10)
    assert pad.score(HeadPair.of(base, beyond), tau=tau) == pytest.approx(
        exact_pad(base, beyond, tau), abs=0, rel=1e-10
    )
    assert kl.score(HeadPair.of(base, beyond), tau=tau) == pytest.approx(
        exact_kl(base, beyond, tau), abs=0, rel=1e-10
    )


@pytest.mark.parametrize("size", [1e-300, 30.0, 700.0, 1e4, 1e100])
def test_extreme_weights_stay_finite_and_right(size):
    base, task = pair(1.0)
    head = HeadPair.of(size * base, size * task)
    assert pad.score(head) == pytest.approx(
        exact_pad(size * base, size * task), abs=1e-18, rel=1e-8
    )
    assert kl.score(head) == pytest.approx(exact_kl(size * base, size * task), abs=1e-18, rel=1e-8)


def test_a_small_change_of_extreme_weights_keeps_its_digits():
    base, step = pair(1.0)
    base *= 300
    task = base + 2.0**-10 * np.round(step)  # exact in float64
    assert HeadPair.of(base, task).softmax(1.0) is not None
    assert pad.score(HeadPair.of(base, task)) == pytest.approx(exact_pad(base, task), rel=1e-8)
    assert kl.score(HeadPair.of(base, task)) == pytest.approx(exact_kl(base, task), rel=1e-8)


def test_swapped_exchanges_base_and_task():
    parts, _ = three_parts(0.1, shared=True)
    base, task = parts.flat()
    swapped_base, swapped_task = parts.swapped().flat()
    np.testing.assert_array_equal(swapped_base, task)
    np.testing.assert_array_equal(swapped_task, base)


def test_the_parts_are_not_written_to():
    parts, _ = three_parts(1e-2, shared=True)
    before = [x.copy() for x in parts.flat()]
    for metric, options in EVERY_SCORE:
        load_score(metric)(parts, **options)
    for x, y in zip(before, parts.flat(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_temperature_has_sums_of_its_own():
    head = HeadPair.of(*pair(1e-2))
    for tau in (1.0, 2.0, 1.0, 0.5):
        fresh = HeadPair.of(*pair(1e-2))
        assert pad.score(head, tau=tau) == pad.score(fresh, tau=tau)
        assert kl.score(head, tau=tau) == kl.score(fresh, tau=tau)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1000, 7)])
def test_an_aligned_array_begins_at_a_boundary(shape):
    held = [np.empty(i) for i in range(1, 20)]
    for array in [aligned_empty(shape) for _ in held]:
        assert array.ctypes.data % 64 == 0 and array.flags.c_contiguous
        assert (array.shape, array.dtype) == (shape, np.float64)
        array[:] = 1.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 4)])
def test_running_sums_are_those_of_the_flat_array(shape):
    x = np.random.default_rng(0).normal(size=shape)
    expected = np.cumsum(x.ravel("F"))
    found = cumulative_sums(x.copy())
    np.testing.assert_allclose(found.ravel("F"), expected, rtol=0, atol=1e-14)


def test_running_sums_start_where_they_are_told_to():
    x = np.random.default_rng(0).normal(size=(4, 3))
    found = cumulative_sums(x.copy(), np.array([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(found, x.cumsum(axis=0) + np.array([10, 20, 30]), rtol=1e-14)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 2**17), (2**16 + 3, 1), (1000, 100)])
def test_blocks_hold_every_row_once(rows, columns):
    x = np.broadcast_to(0.0, (rows, columns))
    taken = [row for piece in row_blocks(x) for row in range(rows)[piece]]
    assert taken == list(range(rows))


def test_grounds_do_not_ask_for_small_changes():
    base, task = pair(5.0)
    head = HeadPair.of(base, task)
    assert head.softmax(1.0) is None
    p, q = exact_softmax(base.ravel()).astype(float), exact_softmax(task.ravel()).astype(float)
    assert pad.score(head, ground="values") == pytest.approx(wasserstein_distance(p, q), rel=1e-6)
