import numpy as np
import pytest
import torch
from scipy.special import kl_div, rel_entr
from scipy.stats import entropy

from alps.scores.kl import score


def pair(shift: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    base = 0.3 * torch.randn(48, 16, generator=generator)
    return base, base + shift * torch.randn(48, 16, generator=generator)


def softmax(matrix) -> np.ndarray:
    exponents = matrix.double().flatten().numpy().astype(np.longdouble)
    mass = np.exp(exponents - exponents.max())
    return mass / mass.sum()


@pytest.mark.parametrize("shift", [3.0, 1e-1, 1e-2])
def test_equals_scipy(shift):
    base, task = pair(shift)
    p, q = (softmax(m).astype(float) for m in (base, task))
    assert score(base, task) == pytest.approx(float(entropy(p, q)), abs=0, rel=1e-6)
    assert score(base, task) == pytest.approx(float(rel_entr(p, q).sum()), abs=0, rel=1e-6)


@pytest.mark.parametrize("shift", [1e-3, 2e-5, 1e-6])
def test_equals_an_exact_reference_for_small_shifts_too(shift):
    base, task = pair(shift)
    p, q = softmax(base), softmax(task)
    exact = float((p * np.log(p / q) - p + q).sum())
    assert score(base, task) == pytest.approx(exact, abs=0, rel=1e-6)


def test_is_never_negative():
    scores = [score(*pair(1e-8, seed)) for seed in range(20)]
    assert min(scores) >= 0.0


def test_a_float32_softmax_would_fail_the_exact_tests():
    base, task = pair(1e-3)
    p, q = (torch.softmax(m.flatten(), 0) for m in (base, task))
    exact = float(kl_div(softmax(base).astype(float), softmax(task).astype(float)).sum())
    assert abs(float((p * (p / q).log()).sum()) - exact) > 1e-3 * exact


def test_the_base_is_the_first_argument():
    base, task = pair(1.0)
    assert score(base, task) != pytest.approx(score(task, base), abs=0, rel=1e-3)


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
