import pytest
import torch

from alps.localization.rounding import Rounding, rounding

HALF = [torch.bfloat16, torch.float16]


def base(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    weights = 0.02 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    return weights.to(dtype)


def step(relative: float) -> torch.Tensor:
    """A change of about this share of each weight."""
    noise = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    return relative * base().abs() * noise


def counts(found: Rounding) -> tuple[int, int, int, int]:
    return found.entries, found.changed, found.near, found.lost


@pytest.mark.parametrize("dtype", HALF)
def test_neighbours_are_counted_in_steps(dtype):
    before = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 0.0], dtype=dtype)
    epsilon = torch.finfo(dtype).eps
    after = torch.tensor(
        [1, 1 + epsilon, 1 + 2 * epsilon, 1 + 3 * epsilon, -1 - epsilon, 0], dtype=dtype
    )
    assert counts(rounding(before, after)) == (6, 4, 3, 0)
    assert counts(rounding(after, before)) == (6, 4, 3, 0)


@pytest.mark.parametrize("dtype", HALF)
def test_a_change_of_sign_is_no_small_step(dtype):
    before = torch.tensor([1.0, -0.3, 5.0], dtype=dtype)
    assert counts(rounding(before, -before)) == (3, 3, 0, 0)


@pytest.mark.parametrize("dtype", HALF)
def test_a_base_in_float32_is_rounded_likewise(dtype):
    assert counts(rounding(base(), base().to(dtype)))[:3] == (2048, 0, 0)
    assert counts(rounding(base().to(dtype).float(), base().to(dtype))) == (2048, 0, 0, 0)


@pytest.mark.parametrize("dtype", HALF)
def test_a_change_near_the_rounding_is_warned_about_with_its_share(dtype):
    task = (base() + step(torch.finfo(dtype).eps / 4)).to(dtype)
    found = rounding(base(dtype), task)
    assert 0 < found.changed < 0.5 * found.entries and found.near == found.changed
    warning = found.warning("BF16")
    assert f"only {found.changed / found.entries:.1%} of the q/k/v entries differ" in warning
    assert "100% of those by at most 2 steps" in warning and "stored as BF16" in warning


@pytest.mark.parametrize("dtype", HALF)
def test_a_float32_base_and_a_task_near_the_rounding_are_warned_about(dtype):
    task = (base() + step(torch.finfo(dtype).eps / 4)).to(dtype)
    assert "by at most 2 steps" in rounding(base(), task).warning("F16")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("stored", [torch.float32, None])
def test_a_large_change_is_not(dtype, stored):
    task = (base() + step(0.5)).to(dtype)
    found = rounding(base(stored or dtype), task)
    assert found.changed > 0.9 * found.entries
    assert found.warning("BF16") is None


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_float32_task_never_is(stored):
    found = rounding(base(stored), base() + 1e-9)
    assert found == Rounding() and found.warning("F32") is None


def test_few_changed_rows_are_not_enough_to_warn():
    """Training a tenth of the heads changes a tenth of the entries, by as much as it likes."""
    task = base(torch.bfloat16)
    task[:6] = (base() + step(0.5))[:6].to(torch.bfloat16)
    found = rounding(base(torch.bfloat16), task)
    assert 0 < found.changed < 0.1 * found.entries
    assert found.warning("BF16") is None


@pytest.mark.parametrize("dtype", HALF)
def test_a_task_that_is_the_rounded_base_is_warned_about(dtype):
    """Its scores are not zero, and nothing but rounding."""
    found = rounding(base(), base().to(dtype))
    assert found.lost > 0.9 * found.entries
    assert "equals the base model rounded" in found.warning("BF16")


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_identical_checkpoints_are_told_elsewhere(dtype):
    assert rounding(base(dtype), base(dtype)).warning("BF16") is None
    assert Rounding().warning("BF16") is None


def test_counts_of_groups_add_up():
    assert sum([Rounding(1, 2, 3, 4), Rounding(10, 20, 30, 40)], Rounding()) == Rounding(
        11, 22, 33, 44
    )


def test_the_warning_begins_beyond_half():
    assert Rounding(100, 10, 5).warning("BF16") is None
    assert "60% of those" in Rounding(100, 10, 6).warning("BF16")


def test_rows_cut_from_a_larger_tensor_are_compared():
    task = base(torch.bfloat16) * 2
    assert rounding(base(torch.bfloat16)[:, ::2], task[:, ::2]).entries == 1024
