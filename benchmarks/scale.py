"""Which models fit which devices: the predicted memory of a training, as docs/scale.md has it.

python benchmarks/scale.py
python benchmarks/scale.py --write       # puts the table into docs/scale.md
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from alps.config.build import build, compose_config
from alps.cost.memory import peak_memory
from alps.cost.micro_batch import USABLE_MEMORY
from alps.cost.shape import ModelShape
from alps.cost.storage import Storage
from alps.methods.expected_plan import expected_plan
from alps.models.training_plan import TrainingPlan
from alps.plan.cost import model_shape

MODELS = {"1B": "llama3_2_1b", "3B": "llama3_2_3b", "8B": "llama3_1_8b"}
METHODS = ("full", "rest_trains", "heads_only", "heads_only, preset=gpu24", "lora")
DEVICES = (24, 40, 80)
TOKENS, ANSWER_SHARE = 1024, 0.75
"""Of a micro-batch: two long examples, or a few of usual length."""

GIB = 2**30
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
FIRST = "| model | trains |"


def plan_of(method: str, shape: ModelShape) -> TrainingPlan:
    """What a method trains; heads are spread over all layers."""
    if method == "full":
        return TrainingPlan(qkv="all", rest=True)
    if method == "lora":
        return build(compose_config(["method=lora", "evals=none"])).method.plan(None)
    scope = method.split(",")[0]
    settings = ["method=layer_consistent", f"scope={scope}", "ratio=0.1", "evals=none"]
    return expected_plan(build(compose_config(settings)).method, shape.geometry, seed=0)


def storage(method: str, shards: int = 1, buckets: bool = False) -> Storage:
    """bf16-mixed on GPUs; the preset has a bfloat16 base and computes activations twice."""
    small = "gpu24" in method
    return Storage(
        activation_bytes=2,
        frozen_bytes=2 if small else 4,
        checkpointing=small,
        shards=shards,
        buckets=buckets,
    )


def table() -> list[str]:
    """Rows of the table: GiB of a device by strategy, and the least that trains it."""
    lines = [
        "| model | trains | one device, GiB | each under DDP | each of 8 under FSDP | "
        "24 GB | 40 GB | 80 GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, choice in MODELS.items():
        shape = model_shape(build(compose_config([f"model={choice}", "evals=none"])).model)
        assert shape is not None
        for method in METHODS:
            plan, answers = plan_of(method, shape), math.ceil(ANSWER_SHARE * TOKENS)
            stored = storage(method), storage(method, buckets=True), storage(method, shards=8)
            one, ddp, eight = (
                peak_memory(shape, plan, TOKENS, answers, each).total / GIB for each in stored
            )
            cells = [name, method, f"{one:.1f}", f"{ddp:.1f}", f"{eight:.1f}"]
            cells += [advice(one, eight, memory) for memory in DEVICES]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def advice(one: float, eight: float, memory: int) -> str:
    """The least that trains it: one device, or eight that share the model."""
    usable = USABLE_MEMORY * memory
    return "one" if one <= usable else "8, sharded" if eight <= usable else "no"


def main() -> None:
    """Prints the table, or replaces the one in the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the table in docs/scale.md")
    text = "\n".join(table())
    if not parser.parse_args().write:
        print(text)
        return
    page = PAGE.read_text()
    old = re.search(rf"^{re.escape(FIRST)}.*\n(?:\|.*\n)*", page, re.M)
    assert old is not None, f"{PAGE} has no table that begins with {FIRST}"
    PAGE.write_text(page.replace(old[0], f"{text}\n"))


if __name__ == "__main__":
    main()
