import copy

import pytest
import torch
from torch import nn

from alps.models.head_linear import HeadLinear

ROWS = [2, 3, 8, 9]


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 12, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [ROWS, list(range(12))])
def test_forward_equals_the_plain_layer_before_training(bias: bool, rows: list[int]):
    plain, x = linear(bias), torch.randn(3, 5, 6)
    torch.testing.assert_close(HeadLinear(copy.deepcopy(plain), rows)(x), plain(x))


def test_only_rows_have_a_gradient_and_it_is_the_plain_layers():
    plain, x = linear(), torch.randn(3, 5, 6, requires_grad=True)
    layer = HeadLinear(copy.deepcopy(plain), ROWS)
    weights = torch.randn(3, 5, 12)
    (plain(x) * weights).sum().backward()
    x_grad = x.grad
    x.grad = None
    (layer(x) * weights).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    torch.testing.assert_close(layer.rows.grad, plain.weight.grad[ROWS])
    torch.testing.assert_close(x.grad, x_grad)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_training_equals_masked_gradients_without_decay_on_frozen_rows(weight_decay: float):
    plain = linear(bias=False)
    layer = HeadLinear(copy.deepcopy(plain), ROWS)
    start = plain.weight.detach().clone()
    ours = torch.optim.AdamW([layer.rows], lr=1e-2, weight_decay=weight_decay)
    theirs = torch.optim.AdamW([plain.weight], lr=1e-2, weight_decay=weight_decay)
    frozen = [i for i in range(12) if i not in ROWS]
    for step in range(20):
        torch.manual_seed(step)
        x, target = torch.randn(7, 6), torch.randn(7, 12)
        for module, optimizer in ((layer, ours), (plain, theirs)):
            optimizer.zero_grad()
            (module(x) - target).square().mean().backward()
            if module is plain:
                plain.weight.grad[frozen] = 0
            optimizer.step()
            with torch.no_grad():
                plain.weight[frozen] = start[frozen]
    merged = layer.merged()
    torch.testing.assert_close(merged.weight[ROWS], plain.weight[ROWS], rtol=1e-5, atol=1e-6)
    assert torch.equal(merged.weight[frozen], start[frozen])
    assert not torch.equal(merged.weight[ROWS], start[ROWS])


def test_the_frozen_weight_is_not_copied():
    plain = linear()
    assert HeadLinear(plain, ROWS).weight.data_ptr() == plain.weight.data_ptr()


def test_state_dict_round_trip_and_deepcopy():
    layer = HeadLinear(linear(), ROWS)
    with torch.no_grad():
        layer.rows += 1
    other = HeadLinear(linear(), ROWS)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6)
    assert set(layer.state_dict()) == {"weight", "bias", "rows"}
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_bf16_autocast_keeps_the_rows_in_float32():
    layer = HeadLinear(linear(), ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.randn(2, 6))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.rows.grad.dtype == torch.float32


@pytest.mark.parametrize("rows", [[], [3, 2], [1, 1], [12]])
def test_rows_that_make_no_sense_are_refused(rows: list[int]):
    with pytest.raises(AssertionError):
        HeadLinear(linear(), rows)
