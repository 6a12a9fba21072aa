import copy
import subprocess
import sys

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


def chosen_rows_grad(layer: HeadLinear, x: torch.Tensor, form: str) -> tuple[torch.Tensor, ...]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x) if form == "fast" else layer.reference(x)
    (y * torch.arange(y.numel()).reshape(y.shape).cos()).sum().backward()
    return y.detach(), layer.rows.grad.clone(), x.grad


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_form_equals_the_reference_form(shape, bias):
    layer = HeadLinear(linear(bias), ROWS)
    with torch.no_grad():
        layer.rows += torch.randn(layer.rows.shape)
    x = torch.randn(shape)
    for fast, plain in zip(
        chosen_rows_grad(layer, x, "fast"), chosen_rows_grad(layer, x, "plain"), strict=True
    ):
        torch.testing.assert_close(fast, plain)


def test_rows_changed_in_any_way_are_seen_by_the_next_forward():
    layer, x = HeadLinear(linear(), ROWS), torch.randn(2, 6)
    layer(x)
    layer.rows.data = layer.rows.data + 1  # no version counter counts this
    torch.testing.assert_close(layer(x), layer.reference(x))


@pytest.mark.parametrize("asked", [True, False])
def test_the_backward_pass_computes_what_is_asked_for_and_no_more(asked):
    """4 of 12 rows; the input's gradient only where somebody below trains."""
    from torch.utils.flop_counter import FlopCounterMode

    y = HeadLinear(linear(), ROWS)(torch.randn(5, 6, requires_grad=asked))
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * 5 * 6 * 4 + asked * 2 * 5 * 6 * 12


def test_gradients_of_micro_batches_add_up():
    layer, x = HeadLinear(linear(), ROWS), torch.randn(8, 6)
    outputs = [layer(part).square().sum() for part in x.split(2)]  # all before any backward
    for output in outputs:
        output.backward()
    summed = layer.rows.grad.clone()
    layer.zero_grad()
    layer(x).square().sum().backward()
    torch.testing.assert_close(summed, layer.rows.grad)


@pytest.mark.parametrize("autocast", [True, False])
def test_a_bf16_base_keeps_float32_rows(autocast):
    plain = linear().to(torch.bfloat16)
    layer = HeadLinear(copy.deepcopy(plain), ROWS)
    assert layer.rows.dtype == torch.float32 and layer.weight.dtype == torch.bfloat16
    before = layer.weight.detach().clone()
    x = torch.randn(4, 6, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW([layer.rows], lr=1e-3, weight_decay=0.1)
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            layer(x).float().square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    frozen = [i for i in range(12) if i not in ROWS]
    assert torch.equal(layer.merged().weight[frozen], before[frozen])
    assert not torch.equal(layer.rows.bfloat16(), before[ROWS])
    assert layer.reference(x).dtype == torch.bfloat16


def test_a_bias_trains_only_if_asked():
    layer = HeadLinear(linear(), ROWS, train_bias=True)
    before = layer.bias.detach().clone()
    layer(torch.randn(3, 6)).sum().backward()
    assert layer.row_bias.grad is not None and layer.bias.grad is None
    with torch.no_grad():
        layer.row_bias += 1
    merged = layer.merged().bias
    assert torch.equal(merged[ROWS], before[ROWS] + 1)
    frozen = [i for i in range(12) if i not in ROWS]
    assert torch.equal(merged[frozen], before[frozen])
    assert HeadLinear(linear(), ROWS).row_bias is None


def test_checkpointed_it_computes_the_same():
    from torch.utils.checkpoint import checkpoint

    layer, x = HeadLinear(linear(), ROWS), torch.randn(2, 6)
    layer(x).square().sum().backward()
    expected = layer.rows.grad.clone()
    layer.zero_grad()
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert torch.equal(layer.rows.grad, expected)


COMPILED = """
import torch
from alps.models.head_linear import HeadLinear
torch.manual_seed(0)
layer, x = HeadLinear(torch.nn.Linear(6, 12), [2, 3, 8, 9]), torch.randn(2, 6)
layer(x).square().sum().backward()
expected = layer.rows.grad.clone()
layer.zero_grad()
torch.compile(layer, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
torch.testing.assert_close(layer.rows.grad, expected)
"""


def test_compiled_in_one_graph_it_computes_the_same():
    """In a process of its own: the shape checks of the tests cannot be traced."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
