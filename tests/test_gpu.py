"""What a CPU cannot show. `make test-gpu` runs these on a machine with a CUDA device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alps.evals.precision import matmul_precision
from alps.models.head_linear import HeadLinear
from alps.models.packed_attention import packed_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def python(*arguments: str, cwd: Path, env: dict[str, str] | None = None):
    """A process of its own: CUDA does not survive the fork of one that has looked for devices."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )


def gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    found, expected = found.detach().float(), expected.detach().float()
    return float((found - expected).abs().max() / expected.abs().max())


def attention_loop(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    parts = zip(*(t.split(lengths, 2) for t in (q, k, v)), strict=True)
    outputs = [
        F.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True) for part in parts
    ]
    return torch.cat(outputs, 2).transpose(1, 2)


@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("width", [64, 128])
def test_one_kernel_over_packed_examples_equals_a_loop(monkeypatch, kv_heads, width):
    from alps.models import packed_attention as module

    calls = []
    varlen = module._varlen
    monkeypatch.setattr(module, "_varlen", lambda *a: calls.append(a) or varlen(*a))
    torch.manual_seed(0)
    lengths = [5, 64, 1, 130]
    exact = [
        torch.randn(1, heads, sum(lengths), width, device="cuda")
        for heads in (8, kv_heads, kv_heads)
    ]
    weights = torch.randn(1, sum(lengths), 8, width, device="cuda")
    half = [t.bfloat16().requires_grad_() for t in exact]
    ours, _ = packed_attention(nn.Identity(), *half, None, lengths)
    reference = [t.detach().float().requires_grad_() for t in half]
    expected = attention_loop(*reference, lengths)
    assert len(calls) == 1 and ours.shape == expected.shape
    assert gap(ours, expected) < 0.01
    found = torch.autograd.grad((ours.float() * weights).sum(), half)
    wanted = torch.autograd.grad((expected * weights).sum(), reference)
    for a, b in zip(found, wanted, strict=True):
        assert gap(a, b) < 0.02


def test_head_linear_equals_its_reference_under_autocast():
    torch.manual_seed(0)
    linear = nn.Linear(256, 128).cuda()
    layer = HeadLinear(linear, list(range(32, 64)))
    layer.rows.data += 0.1 * torch.randn_like(layer.rows)  # far from the base: 0.06 at most
    x = torch.randn(4, 9, 256, device="cuda")
    ends = []
    for forward in (layer, layer.reference):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            y = forward(inputs)
        assert y.dtype == torch.bfloat16
        ends.append([y, *torch.autograd.grad(y.float().square().sum(), (inputs, layer.rows))])
    assert [t.dtype for t in ends[0]] == [t.dtype for t in ends[1]]
    for found, expected in zip(*ends, strict=True):
        assert gap(found, expected) < 0.02


def test_tf32_is_allowed_inside_and_given_back():
    torch.manual_seed(0)
    a, b = torch.randn(2, 512, 512, device="cuda")
    exact = (a.double() @ b.double()).float()
    with matmul_precision("32"):
        plain = a @ b
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), matmul_precision("tf32"):
        rounded = a @ b
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before
    with matmul_precision("32"):
        assert torch.equal(a @ b, plain)
    assert gap(plain, exact) < 1e-5
    if torch.cuda.is_tf32_supported():
        assert 1e-5 < gap(rounded, exact) < 1e-2


def test_a_run_trains_and_is_evaluated_on_the_gpu(tmp_path):
    settings = ("model=tiny", "evals=mini", "data.max_examples=24")
    done = python("-m", "alps.cli", "train", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout + done.stderr
    (result,) = tmp_path.glob("outputs/runs/*/training.json")
    assert json.loads(result.read_text())["precision"] == "bf16-mixed"


@pytest.mark.timeout(600)
def test_every_part_of_the_benchmark_runs_on_the_gpu(tmp_path):
    done = python(str(BENCHMARK), "--tiny", "--out", "gpu.md", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "gpu.md").read_text()
    assert "no GPU" not in report and "out of memory" not in report
    assert "varlen, ms" in report and "| tf32 | ours |" in report


SHARDED = """
import torch, torch.distributed as dist, transformers
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from alps.heads.head_set import HeadSet
from alps.models.apply import apply_heads
from alps.models.architecture import model_geometry
from alps.models.head_linear import HeadLinear
from alps.models.loss import answer_loss
from alps.settings.run import Optim
from alps.training.optimizer import build_optimizer
from alps.training.sharding import shard

class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        )
        model = transformers.LlamaForCausalLM(config).float().to(DEVICE)
        heads = HeadSet(heads=((0, 1), (1, 2)), geometry=model_geometry(model))
        self.model = apply_heads(model, heads, scope="rest_trains")
        for module in self.model.modules():
            if isinstance(module, HeadLinear):
                module.rows.data += 0.1 * torch.randn_like(module.rows)

    def forward(self, ids):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
            return answer_loss(self.model, ids, ids)

def step(model):
    optimizer = build_optimizer(
        model.parameters(), Optim(lr=0.01, batch_size=2, epochs=1), fused=True
    )
    loss = model(ids)
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    gradients = [p.grad.clone() for p in trained]
    optimizer.step()
    after = model(ids)  # frozen weights have rows written into them, so only results compare
    return [loss.detach(), after.detach(), norm, *gradients, *(p.detach() for p in trained)]

dist.init_process_group(BACKEND)
ids = torch.randint(0, 61, (2, 12), device=DEVICE)
plain, sharded = Loss(), Loss()
shard(sharded, sharded.model, init_device_mesh(DEVICE, (1,)), mixed=MIXED)
tolerance = dict(rtol=0.05, atol=0.02) if MIXED else {}
for a, b in zip(step(sharded), step(plain), strict=True):
    a = a.full_tensor() if hasattr(a, "full_tensor") else a
    torch.testing.assert_close(a.to(b.dtype), b, **tolerance)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("mixed", [False, True])
def test_a_sharded_step_over_nccl(tmp_path, mixed):
    """A world of one: collectives run; loss, gradients and weights are the plain model's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    rank = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    rank["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    code = f'DEVICE, BACKEND, MIXED = "cuda", "nccl", {mixed}\n{SHARDED}'
    done = python("-c", code, cwd=tmp_path, env={**os.environ, **rank})
    assert done.returncode == 0, done.stderr
