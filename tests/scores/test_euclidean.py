import numpy as np
import pytest
import torch

from alps.heads.head_pair import HeadPair
from alps.scores.euclidean import score as score_pair


def score(base, task, **options) -> float:
    return score_pair(HeadPair.of(base, task), **options)


def pair(shift: float):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(48, 16, generator=generator)
    return base, base + shift * torch.randn(48, 16, generator=generator)


@pytest.mark.parametrize("shift", [10.0, 1.0, 1e-1, 1e-2, 1e-3, 2e-5, 1e-6])
def test_equals_numpy(shift):
    base, task = pair(shift)
    difference = task.double().numpy() - base.double().numpy()
    assert score(base, task) == pytest.approx(float(np.linalg.norm(difference)), abs=0, rel=1e-12)


def test_a_difference_in_half_precision_would_fail_the_test_above():
    base, task = pair(1e-2)
    rounded = float(torch.linalg.vector_norm((task.bfloat16() - base.bfloat16()).float()))
    assert abs(rounded - score(base, task)) > 1e-3 * score(base, task)


def test_identical_matrices_score_zero():
    base, _ = pair(1.0)
    assert score(base, base.clone()) == 0.0


def test_float32_input_is_computed_in_float64():
    base, task = pair(1e-3)
    assert score(base, task) == score(base.double(), task.double())
    huge = torch.full((2, 2), 3e38)
    assert score(-huge, huge) == pytest.approx(1.2e39, abs=0, rel=1e-6)  # float32 ends at 3.4e38


def test_is_the_frobenius_norm_of_the_difference():
    assert score(torch.zeros(1, 2), torch.tensor([[3.0, -4.0]])) == 5.0
