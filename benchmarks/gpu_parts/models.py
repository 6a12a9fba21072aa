"""Runs of the benchmark: models with random weights made on the device, plans, rows."""

from __future__ import annotations

from random import Random

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from alps.config.build import build, compose_config
from alps.cost.shape import ModelShape
from alps.data.encoding.encode import EncodedExample
from alps.methods.expected_plan import expected_plan
from alps.models.packed_attention import NAME
from alps.models.training_plan import TrainingPlan
from alps.plan.cost import BYTE_TOKENS, model_shape
from alps.settings.run import Run
from gpu_parts.report import DEVICE, Report

MODELS = {"1b": "llama3_2_1b", "3b": "llama3_2_3b", "8b": "llama3_1_8b", "tiny": "tiny"}
WAYS = {
    "full": ["method=full"],
    "rest_trains": ["method=random", "scope=rest_trains"],
    "heads_only": ["method=random", "scope=heads_only"],
    "heads_only, top third": ["method=random", "scope=heads_only", "method.depth=top_third"],
    "LoRA": ["method=lora"],
}
"""What trains: 10 % of the heads, drawn from all layers or from the top third of them."""


def run_of(report: Report, name: str, *settings: str, rows: int | None = None) -> Run:
    """A run of the benchmark's steps: one epoch over the same examples is one step.

    Args:
        report: Sizes.
        name: A key of `MODELS`.
        settings: As on the command line.
        rows: Examples per step.
    """
    rows, steps = rows or report.rows, report.warmup + report.steps
    common = [f"model={MODELS[name]}", "evals=none", "trainer.progress=off", "trainer.devices=1"]
    common += ["optim.precision=bf16-mixed", f"optim.batch_size={rows}", f"optim.epochs={steps}"]
    return build(compose_config([*common, f"trainer.micro_batch_size={rows}", *settings]))


def shape_of(run: Run) -> ModelShape:
    """Sizes of a run's model, from its settings."""
    shape = model_shape(run.model)
    assert shape is not None
    return shape


def plan_of(run: Run) -> TrainingPlan:
    """What a run trains; its method chooses heads without a model."""
    return expected_plan(run.method, shape_of(run).geometry, run.seed)


def config_of(run: Run) -> LlamaConfig:
    """Config of a run's model, from its settings."""
    sizes = dict(run.model.shape or {"vocab_size": BYTE_TOKENS, **(run.model.random or {})})
    sizes.pop("model_type", None)
    return LlamaConfig(**{**sizes, "max_position_embeddings": 8192})


def random_model(
    run: Run, dtype: torch.dtype = torch.float32, attention: str = NAME
) -> LlamaForCausalLM:
    """The same random weights at each call, made on the device in `dtype`."""
    torch.manual_seed(0)
    with DEVICE:
        return AutoModelForCausalLM.from_config(
            config_of(run), dtype=dtype, attn_implementation=attention
        )


def random_rows(count: int, length: int, vocab: int) -> list[EncodedExample]:
    """Examples of random tokens, of half to three halves of a length, half of each its answer."""
    draw = Random(0)
    shortest = max(length // 2, 2)
    lengths = [shortest + (2 * i + 1) * length // (2 * count) for i in range(count)]
    draw.shuffle(lengths)
    ids = [[draw.randrange(vocab) for _ in range(each)] for each in lengths]
    return [EncodedExample(row, len(row) // 2) for row in ids]
