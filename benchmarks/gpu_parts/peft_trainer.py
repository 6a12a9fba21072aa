"""LoRA as PEFT and the HF Trainer train it, on the rows of the others."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from alps.data.batches import pack
from alps.data.encoding.encode import EncodedExample
from alps.settings.run import Run
from gpu_parts.models import random_model
from gpu_parts.report import DEVICE, Report, synchronize
from gpu_parts.trainer import Steps


class Clock(TrainerCallback):
    """Marks the begin and the end of each step."""

    def __init__(self):
        """No marks yet."""
        self.marks: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The first step's begin; later ones begin where the last one ended."""
        if not self.marks:
            self._mark()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After the optimizer's step."""
        self._mark()

    def _mark(self) -> None:
        synchronize()
        self.marks.append(time.perf_counter())


def peft_steps(report: Report, run: Run, rows: Sequence[EncodedExample]) -> Steps:
    """Steps on one packed sequence; transformers finds its examples by their positions.

    Args:
        report: Sizes.
        run: The run of `method=lora`, whose settings the two get.
        rows: Examples of each step.
    """
    packed, optim, method = pack(rows, 0), run.optim, run.method
    row = {n: packed[n][0].tolist() for n in ("input_ids", "labels", "position_ids")}
    adapters = LoraConfig(
        r=method.rank,  # pyright: ignore[reportAttributeAccessIssue]
        lora_alpha=method.alpha,  # pyright: ignore[reportAttributeAccessIssue]
        target_modules=list(method.targets),  # pyright: ignore[reportAttributeAccessIssue]
        task_type="CAUSAL_LM",
    )
    base: Any = random_model(run, attention="sdpa")
    torch.manual_seed(run.seed)
    model: Any = get_peft_model(base, adapters)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=1,
            max_steps=report.warmup + report.steps,
            learning_rate=optim.lr,
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.clip_norm or 0.0,
            bf16=True,
            use_cpu=DEVICE.type == "cpu",
            seed=run.seed,
            logging_first_step=True,
            logging_steps=10**6,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        clock = Clock()
        steps = report.warmup + report.steps
        rows_of_steps: Any = [row] * steps
        trainer = Trainer(
            model=model, args=arguments, train_dataset=rows_of_steps, callbacks=[clock]
        )
        trainer.remove_callback(_printer())
        trainer.train()
        times = [b - a for a, b in itertools.pairwise(clock.marks)]
        first = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
    return Steps(float(first), times[0], statistics.median(times[report.warmup :]), peak)


def _printer() -> Any:
    """The callback that prints logs, which would stand in the report."""
    from transformers import PrinterCallback

    return PrinterCallback
