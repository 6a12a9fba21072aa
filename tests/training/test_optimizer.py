import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from alps.settings.run import Optim
from alps.training.optimizer import build_optimizer, build_schedule, lr_factor

OPTIM = Optim(lr=0.5, batch_size=1, epochs=1)


def rates(num_steps: int, warmup_ratio: float) -> list[float]:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optim = replace(OPTIM, warmup_ratio=warmup_ratio)
    optimizer = build_optimizer([parameter], optim, fused=False)
    schedule = build_schedule(optimizer, optim, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_warm_up_rises_in_equal_parts_then_the_cosine_ends_at_a_tenth():
    found = rates(20, 0.1)
    assert found[:2] == pytest.approx([0.25, 0.5])
    assert found[2:] == sorted(found[2:], reverse=True)
    assert found[-1] == pytest.approx(0.05)
    assert found[10] == pytest.approx(0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * 9 / 18)) / 2))


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_a_training_of_one_step_moves(ratio):
    assert rates(1, ratio)[0] > 0


def test_no_step_without_warm_up_exceeds_the_peak():
    assert max(lr_factor(k, 0, 10, 0.1) for k in range(10)) <= 1


@pytest.mark.parametrize(("num_steps", "warmup"), [(20, 2), (21, 3), (5, 1)])
def test_a_part_of_a_step_of_warm_up_is_a_step(num_steps, warmup):
    found = rates(num_steps, 0.1)
    assert found.index(max(found)) == warmup - 1


def test_settings_of_adamw_reach_it():
    optim = replace(OPTIM, betas=(0.7, 0.8), eps=1e-3, weight_decay=0.25)
    (group,) = build_optimizer([nn.Parameter(torch.zeros(2, 2))], optim, fused=True).param_groups
    names = ("lr", "betas", "eps", "weight_decay", "fused")
    assert [group[name] for name in names] == [0.5, (0.7, 0.8), 1e-3, 0.25, True]


def test_matrices_decay_and_vectors_do_not():
    matrix, vector, frozen = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2)), None
    frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)
    groups = build_optimizer([matrix, vector, frozen], OPTIM, fused=False).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay == {id(matrix): 0.1, id(vector): 0.0}
