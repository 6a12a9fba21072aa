import numpy as np
import pytest
import torch
from scipy.special import kl_div, rel_entr
from scipy.stats import entropy

from alps.heads.head_pair import HeadPair
from alps.scores.kl import score as score_pair


def score(base, task, **options) -> float:
    return score_pair(HeadPair.of(base, task), **options)


def pair(shift: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    base = 0.3 * torch.randn(48, 16, generator=generator)
    return base, base + shift * torch.randn(48, 16, generator=generator)


def softmax(matrix) -> np.ndarray:
    exponents = matrix.double().flatten().numpy().astype(np.longdouble)
    mass = np.exp(exponents - exponents.max())
    return mass / mass.sum()


def exact(base, task) -> float:
    """KL by a plain loop in long doubles.

    A term is p (q / p - 1 - log(q / p)): the added q - p sum to zero, and each term is then of the
    size of its change squared, so that 64 bits of mantissa last for changes of 1e-6.
    """
    x, y = (m.double().flatten().numpy().astype(np.longdouble) for m in (base, task))
    log_sum_x, log_sum_y = (np.log(np.exp(m).sum()) for m in (x, y))
    total = np.longdouble(0)
    for a, b in zip(x, y, strict=True):
        log_ratio = (b - a) - (log_sum_y - log_sum_x)
        total += np.exp(a - log_sum_x) * (np.expm1(log_ratio) - log_ratio)
    return float(total)


@pytest.mark.parametrize("shift", [3.0, 1.0, 1e-1, 1e-2])
def test_equals_scipy(shift):
    base, task = pair(shift)
    p, q = (softmax(m).astype(float) for m in (base, task))
    assert score(base, task) == pytest.approx(float(entropy(p, q)), abs=0, rel=1e-6)
    assert score(base, task) == pytest.approx(float(rel_entr(p, q).sum()), abs=0, rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("shift", [1e-1, 1e-2, 1e-3, 1e-4, 2e-5, 1e-6])
def test_equals_an_exact_reference_for_small_shifts_too(shift, tau):
    base, task = pair(shift)
    expected = exact(base.double() / tau, task.double() / tau)
    assert score(base, task, tau=tau) == pytest.approx(expected, abs=0, rel=1e-8)
    reverse = exact(task.double() / tau, base.double() / tau)
    found = score(base, task, tau=tau, direction="task_base")
    assert found == pytest.approx(reverse, abs=0, rel=1e-8)


def test_is_never_negative():
    scores = [score(*pair(1e-8, seed)) for seed in range(20)]
    assert min(scores) >= 0.0


def test_a_float32_softmax_would_fail_the_exact_tests():
    base, task = pair(1e-3)
    p, q = (torch.softmax(m.flatten(), 0) for m in (base, task))
    expected = float(kl_div(softmax(base).astype(float), softmax(task).astype(float)).sum())
    assert abs(float((p * (p / q).log()).sum()) - expected) > 1e-3 * expected


def test_the_base_is_the_first_argument():
    base, task = pair(1.0)
    assert score(base, task) != pytest.approx(score(task, base), abs=0, rel=1e-3)


def test_two_masses_by_hand():
    """Eq. 13: 0.2 log(0.2 / 0.6) + 0.8 log(0.8 / 0.4)."""
    base, task = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.6, 0.4]]).log()
    there = 0.2 * np.log(0.2 / 0.6) + 0.8 * np.log(0.8 / 0.4)
    back = 0.6 * np.log(0.6 / 0.2) + 0.4 * np.log(0.4 / 0.8)
    assert score(base, task) == pytest.approx(there, rel=1e-6)
    assert score(base, task, direction="task_base") == pytest.approx(back, rel=1e-6)


def test_tau_divides_the_entries():
    base, task = pair(1.0)
    halved = score(base.double() / 2, task.double() / 2)
    assert score(base, task, tau=2.0) == pytest.approx(halved, abs=0, rel=1e-12)
    assert halved != pytest.approx(score(base, task), abs=0, rel=1e-2)


def test_identical_matrices_score_zero():
    base, _ = pair(1.0)
    assert score(base, base.clone()) == 0.0


def test_float32_input_is_computed_in_float64():
    base, task = pair(1e-2)
    assert score(base, task) == score(base.double(), task.double())


def test_masses_that_underflow_stay_finite():
    base, task = torch.tensor([[0.0, 2000.0]]), torch.tensor([[2000.0, 0.0]])
    assert score(base, task) == pytest.approx(2000.0)
