"""Attention over packed examples and losses: agreement and time."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from alps.models import packed_attention as packed
from alps.models.loss import answer_loss
from gpu_parts.models import random_model, random_rows, run_of, shape_of
from gpu_parts.report import DASH, DEVICE, Failure, Report, median_seconds

Gradients = tuple[Tensor, ...]


def attention(report: Report) -> None:
    """One kernel for all packed examples (on a GPU) beside a loop over them; both are ours."""
    cells = []
    for name in report.models:
        found = report.attempt(f"attention, {name}", lambda name=name: _attention(report, name))
        cells.append((name, found.text, *[DASH] * 5) if isinstance(found, Failure) else found)
    one = "varlen" if DEVICE.type == "cuda" else "loop (no kernel for CPUs)"
    columns = ("model", "examples", f"{one}, ms", "loop, ms", "ratio", "output", "gradients")
    report.table("Attention of a layer, forward and backward: largest difference", columns, cells)


def _attention(report: Report, name: str) -> tuple[str, ...]:
    shape = shape_of(run_of(report, name))
    g, rows = shape.geometry, random_rows(report.rows, report.length, shape.vocab)
    lengths = [len(row.ids) for row in rows]
    generator = torch.Generator(DEVICE).manual_seed(0)
    inputs = [
        torch.randn(
            1, heads, sum(lengths), g.head_dim, device=DEVICE, generator=generator
        ).to(torch.bfloat16).requires_grad_()
        for heads in (g.num_heads, g.num_kv_heads, g.num_kv_heads)
    ]  # fmt: skip
    weights = torch.randn(
        1, sum(lengths), g.num_heads, g.head_dim, device=DEVICE, generator=generator
    )

    def ours() -> tuple[Tensor, Gradients]:
        out, _ = packed.packed_attention(nn.Identity(), *inputs, None, lengths)
        return out, torch.autograd.grad((out.float() * weights).sum(), inputs)

    def loop() -> tuple[Tensor, Gradients]:
        with patch.object(packed, "find_spec", return_value=None):  # as if torch had no kernel
            return ours()

    a, b = ours(), loop()
    seconds = [median_seconds(way) for way in (ours, loop)]
    gaps = [max(map(_relative, x, y)) for x, y in (((a[0],), (b[0],)), (a[1], b[1]))]
    times = (f"{1000 * s:.2f}" for s in seconds)
    ratio = f"{seconds[0] / seconds[1]:.2f}"
    return name, str(len(lengths)), *times, ratio, *(f"{gap:.1e}" for gap in gaps)


def loss(report: Report) -> None:
    """Our loss in chunks, and Liger's fused linear cross entropy, beside our loss at once."""
    name = report.models[0]
    run = run_of(report, name)
    shape = shape_of(run)
    count = report.rows * report.length // 2
    model = random_model(run)
    generator = torch.Generator(DEVICE).manual_seed(0)
    hidden = torch.randn(count, shape.hidden, device=DEVICE, generator=generator)
    targets = torch.randint(shape.vocab, (count,), device=DEVICE, generator=generator)
    weight: Any = model.get_output_embeddings().weight
    hidden.requires_grad_()

    def measured(loss: Callable[[], Tensor]) -> tuple[Tensor, Gradients, float, int]:
        def once() -> tuple[Tensor, Gradients]:
            with torch.autocast(DEVICE.type, torch.bfloat16):
                value = loss()
            return value.detach(), torch.autograd.grad(value, (hidden, weight))

        seconds, before = median_seconds(once, 5), 0
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        value, gradients = once()
        peak = torch.cuda.max_memory_allocated() - before if DEVICE.type == "cuda" else 0
        return value, gradients, seconds, peak

    chunk = max(count // 8, 1)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours, at once": lambda: _ours(model, hidden, targets, None),
        f"ours, in chunks of {chunk}": lambda: _ours(model, hidden, targets, chunk),
    }
    if find_spec("liger_kernel") and DEVICE.type == "cuda":
        ways["Liger's"] = lambda: _liger(hidden, weight, targets)
    found = {way: report.attempt(way, lambda f=f: measured(f)) for way, f in ways.items()}
    reference = found["ours, at once"]
    cells = []
    for way, result in found.items():
        if isinstance(result, Failure) or isinstance(reference, Failure):
            cells.append((way, getattr(result, "text", DASH), *[DASH] * 4))
            continue
        value, gradients, seconds, peak = result
        gaps = [_relative(value, reference[0]), *map(_relative, gradients, reference[1])]
        ratio = f"{seconds / reference[2]:.2f}"
        mib = f"{peak / 2**20:.0f}" if peak else DASH
        cells.append((way, f"{1000 * seconds:.2f}", ratio, mib, *(f"{gap:.1e}" for gap in gaps)))
    if "Liger's" not in ways:
        why = "not installed" if DEVICE.type == "cuda" else "needs a GPU"
        cells.append(("Liger's", why, *[DASH] * 5))
    columns = ("loss", "ms", "ratio", "MiB", "loss differs", "of hidden states", "of the matrix")
    title = f"{name}: loss of {count} answer tokens, forward and backward; relative differences"
    report.table(title, columns, cells)


def _ours(model: Any, hidden: Tensor, targets: Tensor, chunk: int | None) -> Tensor:
    """`answer_loss` behind the decoder."""
    one = torch.zeros_like(hidden[:1])
    states = torch.cat([hidden, one])[None]  # the last position predicts nothing
    labels = torch.cat([targets[:1], targets])[None]

    class Output:
        last_hidden_state = states

    with patch("alps.models.loss.decoder_of", return_value=lambda **_: Output):
        return answer_loss(model, labels, labels, chunk=chunk)


def _liger(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # pyright: ignore

    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return fused(weight.bfloat16(), hidden.bfloat16(), targets)


def _relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value."""
    a, b = a.detach().float(), b.detach().float()
    return float((a - b).abs().max() / b.abs().max())
