import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from alps.heads.head_pair import HeadPair
from alps.scores.pad import score as score_pair
from alps.scores.pad import softmax


def score(base, task, **options) -> float:
    return score_pair(HeadPair.of(base, task), **options)


def pair(shift: float, shape=(48, 16), seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    base = 0.3 * torch.randn(shape, generator=generator)
    return base, base + shift * torch.randn(shape, generator=generator)


def scipy_distance(p, q) -> float:
    grid = np.linspace(0, 1, len(p))
    return float(wasserstein_distance(grid, grid, u_weights=p, v_weights=q))


def long_softmax(matrix) -> np.ndarray:
    exponents = matrix.double().flatten().numpy().astype(np.longdouble)
    mass = np.exp(exponents - exponents.max())
    return mass / mass.sum()


def exact_distance(base, task) -> float:
    """W1 on the index grid by a plain loop in long doubles."""
    masses = [long_softmax(matrix)[:-1] for matrix in (base, task)]
    carried = total = np.longdouble(0)
    for p, q in zip(*masses, strict=True):
        carried += q - p
        total += abs(carried)
    return float(total / (base.numel() - 1))


def float32_distance(base, task) -> float:
    """What a float32 softmax without renormalisation would give."""
    shift = torch.softmax(task.flatten(), 0).double() - torch.softmax(base.flatten(), 0).double()
    return float(shift.cumsum(0)[:-1].abs().sum() / (shift.numel() - 1))


@pytest.mark.parametrize("shift", [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_equals_scipy(shift):
    base, task = pair(shift)
    p, q = (torch.softmax(m.double().flatten(), 0).numpy() for m in (base, task))
    assert score(base, task) == pytest.approx(scipy_distance(p, q), abs=0, rel=1e-6)


@pytest.mark.parametrize("shift", [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_other_grounds_equal_scipy(shift):
    """Every entry has the same mass there: scipy's unweighted distance of the two samples."""
    base, task = (m.double().numpy().reshape(1, -1) for m in pair(shift))
    for tau in (1.0, 0.25):
        p, q = (np.exp(m / tau) / np.exp(m / tau).sum() for m in (base, task))
        values = float(wasserstein_distance(p[0], q[0]))
        assert score(base, task, ground="values", tau=tau) == pytest.approx(values, abs=0, rel=1e-6)
        weights = float(wasserstein_distance(base[0], task[0]))
        found = score(base, task, ground="weights", tau=tau)
        assert found == pytest.approx(weights, abs=0, rel=1e-6)


@pytest.mark.parametrize("shift", [1e-1, 1e-3, 1e-6])
def test_the_ground_of_values_equals_an_exact_reference(shift):
    base, task = pair(shift)
    p, q = (np.sort(long_softmax(m)) for m in (base, task))
    found = score(base, task, ground="values")
    assert found == pytest.approx(float(np.abs(p - q).mean()), abs=0, rel=1e-8)


def test_the_grounds_are_three_different_scores():
    base, task = pair(1e-2)
    scores = {score(base, task, ground=ground) for ground in ("index", "values", "weights")}
    assert len(scores) == 3 and score(base, task) == score(base, task, ground="index")


def test_only_the_ground_of_indices_sees_where_an_entry_stands():
    base, _ = pair(1.0)
    task = base[:, torch.randperm(16, generator=torch.Generator().manual_seed(3))]
    assert score(base, task, ground="values") == score(base, task, ground="weights") == 0.0
    assert score(base, task) > 1e-4


def test_three_masses_by_hand():
    """0.2 0.3 0.5 becomes 0.5 0.3 0.2: 0.3 travels two steps of two; sorted, nothing changed."""
    base, task = np.log([[0.2, 0.3, 0.5]]), np.log([[0.5, 0.3, 0.2]])
    assert score(base, task) == pytest.approx(0.3)
    assert score(base, task, ground="values") == pytest.approx(0.0, abs=1e-16)
    shifted = np.log([[0.1, 0.3, 0.6]])
    assert score(base, shifted, ground="values") == pytest.approx(0.2 / 3)
    expected = (np.log(2) + np.log(1.2)) / 3
    assert score(base, shifted, ground="weights") == pytest.approx(expected)


@pytest.mark.parametrize("shift", [1e-1, 1e-2, 1e-3, 1e-4, 2e-5, 1e-6])
def test_equals_an_exact_reference_for_small_shifts_too(shift):
    base, task = pair(shift)
    exact = exact_distance(base, task)
    assert exact > 0
    assert score(base, task) == pytest.approx(exact, abs=0, rel=1e-8)


def test_a_float32_softmax_would_fail_the_exact_tests():
    base, task = pair(2e-5)
    exact = exact_distance(base, task)
    assert abs(float32_distance(base, task) - exact) > 1e-3 * exact


@pytest.mark.parametrize("tau", [0.5, 4.0])
def test_tau_divides_the_entries(tau):
    base, task = pair(0.1)
    exact = exact_distance(base.double() / tau, task.double() / tau)
    assert score(base, task, tau=tau) == pytest.approx(exact, abs=0, rel=1e-8)
    assert score(base, task, tau=tau) != pytest.approx(score(base, task), abs=0, rel=1e-2)


def test_entries_stand_on_the_grid_in_c_order():
    base, task = torch.zeros(2, 3), torch.zeros(2, 3)
    base[0, 0], task[1, 0] = 1000.0, 1000.0  # all mass at 0, then all at 3 of 0..5
    assert score(base, task) == pytest.approx(3 / 5)


def test_identical_matrices_score_zero():
    base, _ = pair(1.0)
    assert score(base, base.clone()) == 0.0


def test_is_symmetric_and_at_most_one():
    base, task = pair(3.0)
    assert score(base, task) == pytest.approx(score(task, base), abs=0, rel=1e-12)
    ends = torch.zeros(1, 2)
    assert score(ends + torch.tensor([[999.0, 0.0]]), ends + torch.tensor([[0.0, 999.0]])) == 1.0


def test_float32_input_is_computed_in_float64():
    base, task = pair(1e-3)
    flat = base.flatten().numpy().astype(np.float64)
    assert float(softmax(flat, 1.0).sum()) == pytest.approx(1.0, abs=1e-15)
    assert score(base, task) == pytest.approx(score(base.double(), task.double()), rel=1e-12)


def test_a_single_entry_scores_zero():
    assert score(torch.tensor([[1.0]]), torch.tensor([[7.0]])) == 0.0
