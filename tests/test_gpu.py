"""What a CPU cannot show. `pytest -m gpu` runs these on a machine with a CUDA device."""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alps.models.head_linear import HeadLinear
from alps.models.packed_attention import packed_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_one_kernel_over_packed_examples_equals_a_loop():
    lengths = [5, 64, 1, 130]
    shapes = ((8, 64), (2, 64), (2, 64))
    q, k, v = (
        torch.randn(1, heads, sum(lengths), width, device="cuda", dtype=torch.bfloat16)
        for heads, width in shapes
    )
    ours, _ = packed_attention(nn.Identity(), q, k, v, None, lengths)
    parts = zip(*(t.split(lengths, 2) for t in (q, k, v)), strict=True)
    loop = [
        F.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True) for part in parts
    ]
    torch.testing.assert_close(ours, torch.cat(loop, 2).transpose(1, 2), rtol=0.02, atol=0.02)


def test_head_linear_equals_its_reference_under_autocast():
    linear = nn.Linear(256, 128).cuda()
    layer = HeadLinear(linear, list(range(32, 64)))
    layer.rows.data += torch.randn_like(layer.rows)
    ends = []
    for forward in (layer, layer.reference):
        x = torch.randn(
            4, 9, 256, device="cuda", generator=torch.Generator("cuda").manual_seed(0)
        ).requires_grad_()
        layer.rows.grad = None
        with torch.autocast("cuda", torch.bfloat16):
            y = forward(x)
        y.float().square().sum().backward()
        ends.append((y, x.grad, layer.rows.grad.clone()))
    torch.testing.assert_close(ends[0], ends[1], rtol=0.03, atol=0.5)


def test_a_run_trains_and_is_evaluated_on_the_gpu(alps, tmp_path):
    done = alps("train", "model=tiny", "evals=mini", "data.max_examples=24", check=0)
    assert "failed" not in done.stdout + done.stderr
    (result,) = tmp_path.glob("outputs/runs/*/training.json")
    assert "bf16-mixed" in result.read_text()


def test_a_sharded_step_over_nccl(preloaded, tmp_path):
    """A world of one: the collectives run, and gradients are those of the plain model."""
    code = """
import torch, torch.distributed as dist, transformers
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from alps.models.loss import answer_loss
from alps.training.sharding import shard

class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        )
        self.model = transformers.LlamaForCausalLM(config).float().cuda()
    def forward(self, ids):
        return answer_loss(self.model, ids, ids)

dist.init_process_group("nccl", device_id=torch.device("cuda:0"))
ids = torch.randint(0, 61, (2, 12), device="cuda")
plain, sharded = Loss(), Loss()
plain(ids).backward()
shard(sharded, sharded.model, init_device_mesh("cuda", (1,)), mixed=False)
sharded(ids).backward()
for a, b in zip(plain.parameters(), sharded.parameters(), strict=True):
    torch.testing.assert_close(b.grad.full_tensor(), a.grad)
dist.destroy_process_group()
"""
    rank = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    done = preloaded.run("-c", code, cwd=tmp_path, env={**os.environ, **rank})
    assert done.returncode == 0, done.stderr
