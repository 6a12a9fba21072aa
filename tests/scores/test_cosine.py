import math

import numpy as np
import pytest
import torch
from scipy.spatial import distance

from alps.head_pair import HeadPair
from alps.scores.cosine import score as score_pair


def score(base, task, **options) -> float:
    return score_pair(HeadPair.of(base, task), **options)


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
    a, b = (m.double().flatten().numpy().astype(np.longdouble) for m in (base, task))
    units = a / np.sqrt((a * a).sum()) - b / np.sqrt((b * b).sum())
    assert score(base, task) == pytest.approx(float((units * units).sum() / 2), abs=0, rel=1e-8)


def test_one_minus_a_float32_dot_would_fail_the_test_above():
    base, task = pair(2e-5)
    plain = 1 - float(torch.nn.functional.cosine_similarity(base.flatten(), task.flatten(), dim=0))
    assert abs(plain - score(base, task)) > 1e-3 * score(base, task)


def test_ranges_from_zero_over_one_to_two():
    base, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert score(base, 7 * base) == 0.0
    assert score(base, other) == pytest.approx(1.0)
    assert score(base, -base) == pytest.approx(2.0)


def test_identical_matrices_score_zero():
    base, _ = pair(1.0)
    assert score(base, base.clone()) == 0.0


def test_float32_input_is_computed_in_float64():
    base, task = pair(1e-3)
    assert score(base, task) == score(base.double(), task.double())


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
