"""What Appendix E says of Wasserstein-1 and Kullback-Leibler, measured: what holds, and where."""

import numpy as np
import pytest

from alps.heads.head_pair import HeadPair
from alps.scores import kl, pad

GROUNDS = ("index", "values", "weights")
SIZES = 10.0 ** -np.arange(1, 7)


def weights(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    base, direction = np.random.default_rng(seed).normal(size=(2, 24, 16))
    return base, direction


def slope(scores: list[float]) -> float:
    """Of a straight line through log score against log size."""
    return float(np.polyfit(np.log(SIZES), np.log(scores), 1)[0])


def w1(base: np.ndarray, task: np.ndarray, ground: str = "index") -> float:
    return pad.score(HeadPair.of(base, task), ground=ground)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ground", GROUNDS)
def test_w1_grows_with_the_size_of_a_change(ground, seed):
    base, direction = weights(seed)
    scores = [w1(base, base + size * direction, ground) for size in SIZES]
    assert slope(scores) == pytest.approx(1.0, abs=0.1)
    assert scores[-2] / scores[-1] == pytest.approx(10.0, rel=1e-3)  # exactly so for small changes


def test_sorted_grounds_are_not_linear_once_entries_trade_places():
    """In a head of real size neighbouring entries are closer than any shift: the sorted values then
    change less, or differently, than the entries. On the index grid nothing is sorted."""
    rng = np.random.default_rng(0)
    base, direction = 0.05 * rng.normal(size=(256, 64)), rng.normal(size=(256, 64))
    sizes = 10.0 ** -np.arange(1, 6)
    slopes = {
        ground: np.diff(np.log([w1(base, base + s * direction, ground) for s in sizes]))
        / np.diff(np.log(sizes))
        for ground in GROUNDS
    }
    assert slopes["index"] == pytest.approx(1.0, abs=0.01)
    for ground in ("values", "weights"):
        assert slopes[ground].max() > 1.5 and slopes[ground].min() < 0.7


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("direction", ["base_task", "task_base"])
def test_kl_grows_with_the_square_of_the_size(direction, seed):
    base, step = weights(seed)
    scores = [kl.score(HeadPair.of(base, base + s * step), direction=direction) for s in SIZES]
    assert slope(scores) == pytest.approx(2.0, abs=0.02)
    assert scores[-2] / scores[-1] == pytest.approx(100.0, rel=1e-3)


def test_a_float32_softmax_does_not_show_the_slopes():
    base, direction = weights()

    def softmax(x: np.ndarray) -> np.ndarray:
        mass = np.exp((x - x.max()).astype(np.float32))
        return (mass / mass.sum()).astype(np.float64).ravel()

    p = softmax(base)
    tasks = [softmax(base + size * direction) for size in SIZES]
    squared = [abs(float((p * np.log(p / q)).sum())) for q in tasks]
    assert abs(slope(squared) - 2.0) > 0.2


@pytest.mark.parametrize("shift", [1e-6, 1e-2, 0.75, -0.5, 3.0])
def test_a_shift_of_all_entries_is_the_shift_on_the_ground_of_weights_only(shift):
    """Eq. 12 calls W1 proportional to a shift: of weights it is, a softmax does not see it."""
    base, direction = weights()
    task = base + shift
    assert w1(base, task, "weights") == pytest.approx(abs(shift), abs=0, rel=1e-9)
    reference = base + shift * direction
    for ground in ("index", "values"):
        assert w1(base, task, ground) < 1e-7 * w1(base, reference, ground)
    assert kl.score(HeadPair.of(base, task)) < 1e-14


def test_w1_is_symmetric_and_kl_is_not():
    base, direction = weights()
    task = base + direction
    for ground in GROUNDS:
        assert w1(task, base, ground) == pytest.approx(w1(base, task, ground), abs=0, rel=1e-12)
    there, back = kl.score(HeadPair.of(base, task)), kl.score(HeadPair.of(task, base))
    assert abs(there - back) > 0.02 * max(there, back)


def test_the_reverse_direction_is_the_exchanged_pair():
    base, direction = weights()
    for size in (1e-3, 2.0):
        task = base + size * direction
        reverse = kl.score(HeadPair.of(base, task), direction="task_base")
        exchanged = kl.score(HeadPair.of(task, base))
        assert reverse == pytest.approx(exchanged, abs=0, rel=1e-12)


def starved(depth: float) -> tuple[np.ndarray, np.ndarray]:
    """A task model that gives one of 64 equal entries a probability near zero."""
    base, task = np.zeros((8, 8)), np.zeros((8, 8))
    task[3, 4] = -depth
    return base, task


def test_kl_runs_away_where_the_task_gives_no_probability_and_w1_does_not():
    """Eq. 13 and 14: the base's 1/64 there costs KL its depth over 64, W1 never more than 1/64."""
    scores = [kl.score(HeadPair.of(*starved(depth))) for depth in (50.0, 100.0, 1000.0)]
    assert scores == pytest.approx([d / 64 + np.log(63 / 64) for d in (50, 100, 1000)], rel=1e-9)
    assert w1(*starved(50.0)) == pytest.approx(w1(*starved(1000.0)), rel=1e-9)
    for ground in ("index", "values"):
        assert w1(*starved(1000.0), ground) <= 1 / 64


def test_kl_of_the_other_direction_does_not_see_the_starved_entry():
    reverse = kl.score(HeadPair.of(*starved(1000.0)), direction="task_base")
    assert reverse == pytest.approx(np.log(64 / 63), rel=1e-9)
    assert kl.score(HeadPair.of(*starved(1000.0))) > 900 * reverse


def test_a_little_noise_moves_a_kl_near_zero_probability_and_hardly_w1():
    base, task = starved(40.0)
    noisy = task.copy()
    noisy[3, 4] -= 4.0  # one entry of 64, whose probability is 1e-18 before and after
    change = kl.score(HeadPair.of(base, noisy)) - kl.score(HeadPair.of(base, task))
    assert change == pytest.approx(4 / 64, rel=1e-6)
    assert w1(base, noisy) == pytest.approx(w1(base, task), abs=1e-12)
