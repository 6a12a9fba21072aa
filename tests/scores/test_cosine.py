import math

import numpy as np
import pytest
import torch
from scipy.spatial import distance

from alps.heads.head_pair import HeadPair
from alps.scores import kl
from alps.scores.cosine import score as score_pair


def score(base, task, of="weights") -> float:
    return score_pair(HeadPair.of(base, task), of=of)


def exact(base, task) -> float:
    """0.5 |a / |a| - b / |b||^2 = 1 - cos in long doubles: nothing near 1 is subtracted."""
    a, b = (np.asarray(m).ravel().astype(np.longdouble) for m in (base, task))
    units = a / np.sqrt((a * a).sum()) - b / np.sqrt((b * b).sum())
    return float((units * units).sum() / 2)


def softmax(matrix) -> np.ndarray:
    exponents = np.asarray(matrix).ravel().astype(np.longdouble)
    mass = np.exp(exponents - exponents.max())
    return mass / mass.sum()


def pair(shift: float):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(48, 16, generator=generator)
    return base, base + shift * torch.randn(48, 16, generator=generator)


@pytest.mark.parametrize("shift", [10.0, 1.0, 1e-2])
def test_equals_scipy(shift):
    base, task = pair(shift)
    a, b = (m.double().flatten().numpy() for m in (base, task))
    assert score(base, task) == pytest.approx(float(distance.cosine(a, b)), abs=0, rel=1e-6)


@pytest.mark.parametrize("shift", [1e-1, 1e-2, 1e-3, 1e-4, 2e-5, 1e-6])
def test_equals_an_exact_reference_for_small_shifts_too(shift):
    base, task = pair(shift)
    assert score(base, task) == pytest.approx(exact(base, task), abs=0, rel=1e-8)


def test_one_minus_a_float32_dot_would_fail_the_test_above():
    base, task = pair(2e-5)
    plain = 1 - float(torch.nn.functional.cosine_similarity(base.flatten(), task.flatten(), dim=0))
    assert abs(plain - score(base, task)) > 1e-3 * score(base, task)


def test_ranges_from_zero_over_one_to_two():
    base, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert score(base, 7 * base) == 0.0
    assert score(base, other) == pytest.approx(1.0)
    assert score(base, -base) == pytest.approx(2.0)


@pytest.mark.parametrize("of", ["weights", "distribution"])
def test_identical_matrices_score_zero(of):
    base, _ = pair(1.0)
    assert score(base, base.clone(), of) == 0.0


@pytest.mark.parametrize("of", ["weights", "distribution"])
def test_float32_input_is_computed_in_float64(of):
    base, task = pair(1e-3)
    assert score(base, task, of) == score(base.double(), task.double(), of)


def test_a_zero_matrix_has_no_direction():
    assert math.isnan(score(torch.zeros(2, 2), torch.ones(2, 2)))
    assert math.isnan(score(torch.ones(2, 2), torch.zeros(2, 2)))
    assert math.isnan(score(torch.zeros(2, 2), torch.zeros(2, 2)))


@pytest.mark.parametrize("scale", [0.5, 1.001, 1e30])
def test_a_longer_matrix_of_the_same_direction_is_no_change(scale):
    base, task = (m.double() for m in pair(1e-2))
    assert score(base, scale * base) < 1e-15
    assert score(base, scale * task) == pytest.approx(score(base, task), abs=0, rel=1e-8)


@pytest.mark.parametrize("size", [1e-6, 1e-2, 1.0])
def test_an_angle_by_hand(size):
    base, task = np.array([[1.0, 0.0]]), np.array([[1.0, size]])
    expected = 2 * math.sin(math.atan(size) / 2) ** 2
    assert score(base, task) == pytest.approx(expected, abs=0, rel=1e-12)
    assert score(base, -task) == pytest.approx(2 - expected, abs=0, rel=1e-12)


def test_the_default_is_of_distributions_as_in_the_authors_script():
    base, task = (0.1 * m for m in pair(1e-2))
    assert score_pair(HeadPair.of(base, task)) == score(base, task, "distribution")
    assert score(base, task, "distribution") != pytest.approx(score(base, task), rel=0.1)


@pytest.mark.parametrize("shift", [30.0, 3.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 2e-5, 1e-6])
@pytest.mark.parametrize("size", [1e-2, 1.0, 30.0])
def test_of_distributions_equals_an_exact_reference(shift, size):
    base, step = (m.double() for m in pair(1.0))
    base, task = size * base, size * base + shift * (step - base)
    expected = exact(softmax(base), softmax(task))
    assert score(base, task, "distribution") == pytest.approx(expected, abs=0, rel=1e-8)


def test_float32_has_no_digit_of_a_small_change_of_nearly_uniform_softmaxes():
    """What the authors' script computes: numbers near 1 are 6e-8 apart there."""
    base, task = (0.02 * m for m in pair(1e-3))
    expected = exact(softmax(base), softmax(task))
    p, q = (torch.softmax(m.flatten(), 0).numpy() for m in (base, task))
    plain = float(1 - np.dot(p, q) / (np.linalg.norm(p) * np.linalg.norm(q)))
    assert expected < 1e-9 and abs(plain - expected) > 0.9 * expected
    assert score(base, task, "distribution") == pytest.approx(expected, abs=0, rel=1e-8)


def test_of_nearly_uniform_softmaxes_it_is_half_the_variance_of_the_change():
    """As KL there: p is about (1 + w) / N, and a change of all entries at once cancels."""
    base, task = (1e-3 * m.double() for m in pair(1.0))
    variance = float((task - base).var(correction=0))
    assert score(base, task, "distribution") == pytest.approx(variance / 2, rel=1e-2)
    assert kl.score(HeadPair.of(base, task)) == pytest.approx(variance / 2, rel=1e-2)


@pytest.mark.parametrize("constant", [1e-3, 0.5, 7.0])
def test_a_softmax_ignores_a_constant(constant):
    base, task = (m.double() for m in pair(1e-2))
    assert score(base, base + constant, "distribution") < 1e-15
    moved = score(base, task + constant, "distribution")
    assert moved == pytest.approx(score(base, task, "distribution"), abs=0, rel=1e-8)


def test_two_masses_by_hand():
    """(0.2, 0.8) and (0.6, 0.4): dot 0.44, lengths sqrt 0.68 and sqrt 0.52."""
    base, task = np.log([[0.2, 0.8]]), np.log([[0.6, 0.4]])
    expected = 1 - 0.44 / math.sqrt(0.68 * 0.52)
    assert score(base, task, "distribution") == pytest.approx(expected, abs=0, rel=1e-12)


def test_distributions_of_zero_and_of_extreme_weights_have_a_direction():
    assert score(torch.zeros(2, 2), torch.ones(2, 2), "distribution") == 0.0
    ends = np.array([[0.0, 2000.0]]), np.array([[2000.0, 0.0]])
    assert score(*ends, "distribution") == 1.0
