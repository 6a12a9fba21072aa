"""Tables of optimizer steps: by what trains, with `preset=gpu24`, under torch.compile."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from alps.cost.memory import peak_memory
from alps.cost.micro_batch import USABLE_MEMORY, largest_micro_batch
from alps.cost.storage import Storage, storage
from alps.data.encoding.encode import EncodedExample
from alps.settings.run import Run
from gpu_parts.models import WAYS, plan_of, random_rows, run_of, shape_of
from gpu_parts.report import DASH, DEVICE, GIB, Failure, Report, gibibytes
from gpu_parts.trainer import Steps, Training

PEFT = "LoRA, PEFT and HF Trainer"
CASES = ((2, False), (2, True), (8, True))
"""Micro-batches of `memory`, in those of `train`; whether activations are computed twice."""
CARD_24 = int(23.5 * GIB)
"""Bytes of a 24 GB card besides the CUDA context."""


def train(report: Report) -> None:
    """Seconds and memory of an optimizer step by what trains, in interleaved rounds."""
    for name in report.models:
        runs = {way: run_of(report, name, *settings) for way, settings in WAYS.items()}
        rows = _rows(report, runs["full"])
        ways: dict[str, Callable[[], Steps]] = {
            way: Training(report, run, rows) for way, run in runs.items()
        }
        ways[PEFT] = partial(_peft, report, runs["LoRA"], rows)
        tokens = sum(len(row.ids) for row in rows)
        title = f"{name}: a step of {len(rows)} packed examples, {tokens} tokens, bf16-mixed"
        found = report.in_rounds(title, ways)
        columns = (
            "trains", "s", "of full", "spread", "tokens/s", "GiB predicted", "GiB measured",
            "first loss",
        )  # fmt: skip
        cells = [
            (way, *_cells(results, found["full"], tokens, _predicted(runs.get(way), rows)))
            for way, results in found.items()
        ]
        report.table(title, columns, cells)


def memory(report: Report) -> None:
    """Peak memory predicted and measured: more tokens, and activations computed twice."""
    for name in report.models:
        cells = []
        for way, settings in WAYS.items():
            for rows, checkpointing in CASES[: 2 if report.tiny else None]:
                more = [f"trainer.activation_checkpointing={str(checkpointing).lower()}"]
                run = run_of(report, name, *settings, *more, rows=rows * report.rows)
                examples = _rows(report, run, rows * report.rows)
                predicted = _predicted(run, examples)
                measured = report.attempt(f"memory, {way}", Training(report, run, examples))
                kind = "computed twice" if checkpointing else "kept"
                tokens = sum(len(row.ids) for row in examples)
                cells.append((way, tokens, kind, *_memory_cells(predicted, measured)))
        columns = ("trains", "tokens", "activations", "GiB predicted", "GiB measured", "ratio")
        report.table(f"{name}: peak memory of a step, bf16-mixed", columns, cells)


def gpu24(report: Report) -> None:
    """`preset=gpu24` at the largest model, in the memory of a 24 GB card."""
    name = report.models[-1]
    preset = ["preset=gpu24", "method=random", "optim.precision=bf16-mixed"]
    run = run_of(report, name, *preset, "trainer.micro_batch_size=1")
    shape, plan, longest = shape_of(run), plan_of(run), report.length * 3 // 2
    budget = int(USABLE_MEMORY * CARD_24)
    size = min(
        largest_micro_batch(shape, plan, longest, 0.5, budget, _storage(run)), 4 * report.rows
    )
    run = run_of(report, name, *preset, f"trainer.micro_batch_size={size}", rows=2 * size)
    rows = _rows(report, run, 2 * size)
    predicted = _predicted(run, sorted(rows, key=lambda row: -len(row.ids))[:size])
    with _limited_memory(CARD_24):
        found = report.attempt("gpu24", Training(report, run, rows, half=True))
    tokens = sum(len(row.ids) for row in rows)
    title = f"{name}: preset=gpu24, {tokens} tokens in micro-batches of {size}, within 23.5 GiB"
    columns = ("s", "tokens/s", "GiB predicted", "GiB measured", "ratio")
    cells = ("", "") if isinstance(found, Failure) else _speed(found, tokens)
    report.table(title, columns, [(*cells, *_memory_cells(predicted, found))])


def compiled(report: Report) -> None:
    """The training step with and without torch.compile, in interleaved rounds."""
    name, backend = report.models[0], "aot_eager" if report.tiny else "inductor"
    cells = []
    for way in ("heads_only",) if report.tiny else ("full", "heads_only"):
        run = run_of(report, name, *WAYS[way])
        rows = _rows(report, run)
        ways: dict[str, Callable[[], Steps]] = {
            "eager": Training(report, run, rows),
            backend: Training(report, run, rows, compiler=backend),
        }
        found = report.in_rounds(f"compile, {way}", ways, rounds=1 if report.tiny else None)
        tokens = sum(len(row.ids) for row in rows)
        for kind, results in found.items():
            first = DASH
            if not isinstance(results, Failure):
                first = f"{results[0].first_seconds:.1f}"
            cells.append((way, kind, *_cells(results, found["eager"], tokens, None)[:4], first))
    columns = ("trains", "backend", "s", "of eager", "spread", "tokens/s", "first step, s")
    report.table(f"{name}: torch.compile of the decoder", columns, cells)


def _rows(report: Report, run: Run, count: int | None = None) -> list[EncodedExample]:
    return random_rows(count or report.rows, report.length, shape_of(run).vocab)


def _peft(report: Report, run: Run, rows: Sequence[EncodedExample]) -> Steps:
    from gpu_parts.peft_trainer import peft_steps

    return peft_steps(report, run, rows)


def _predicted(run: Run | None, rows: Sequence[EncodedExample]) -> int | None:
    """Predicted bytes of a micro-batch of all these rows."""
    if run is None:
        return None
    tokens = sum(len(row.ids) for row in rows)
    answers = sum(row.num_answer_tokens for row in rows)
    return peak_memory(shape_of(run), plan_of(run), tokens, answers, _storage(run)).total


def _storage(run: Run) -> Storage:
    return storage(run, "bf16-mixed", on_gpu=DEVICE.type == "cuda")


def _cells(
    results: list[Steps] | Failure, beside: list[Steps] | Failure, tokens: int, bytes_: int | None
) -> tuple[str, ...]:
    """Seconds, ratio within the rounds and its spread, speed, memory, loss."""
    predicted = DASH if bytes_ is None else gibibytes(bytes_)
    if isinstance(results, Failure):
        return results.text, DASH, DASH, DASH, predicted, DASH, DASH
    seconds = statistics.median(r.seconds for r in results)
    ratio, spread = DASH, DASH
    if not isinstance(beside, Failure):
        ratios = [a.seconds / b.seconds for a, b in zip(results, beside, strict=True)]
        ratio, spread = f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"
    peak = max(r.peak for r in results)
    measured = gibibytes(peak) if peak else DASH
    loss = f"{results[0].first_loss:.3f}"
    return f"{seconds:.4f}", ratio, spread, f"{tokens / seconds:.0f}", predicted, measured, loss


def _speed(steps: Steps, tokens: int) -> tuple[str, str]:
    return f"{steps.seconds:.4f}", f"{tokens / steps.seconds:.0f}"


def _memory_cells(predicted: int | None, measured: Steps | Failure) -> tuple[str, str, str]:
    assert predicted is not None
    if isinstance(measured, Failure):
        return gibibytes(predicted), measured.text, DASH
    return gibibytes(predicted), gibibytes(measured.peak), f"{predicted / measured.peak:.2f}"


@contextmanager
def _limited_memory(limit: int) -> Iterator[None]:
    """Allocations beyond `limit` bytes fail, as on a smaller card."""
    if DEVICE.type == "cpu":
        yield
        return
    total: Any = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
