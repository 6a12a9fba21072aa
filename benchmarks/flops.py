"""What Table 11 can be: operations of a step against full fine-tuning, on the paper's models.

Counted by `alps.cost`, nothing is run. 128 samples of 512 tokens, half of them answer; 10 % of the
heads drawn by chance, from all layers or from the top third. A second table has the predicted
memory of a step of one such sample under bf16-mixed, activations computed twice.

    python benchmarks/flops.py
"""

from dataclasses import replace
from random import Random

from alps.cost.flops import Workload, flops_vs_full
from alps.cost.memory import peak_memory
from alps.cost.shape import ModelShape
from alps.cost.storage import Storage
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.training_plan import LoraShape, TrainingPlan

PAPER = {"Llama-3.2-1B": 2.02 / 0.40, "Llama-3.2-3B": 4.40 / 1.05, "Llama-3.1-8B": 7.67 / 2.18}
"""Hours of full fine-tuning over hours of ALPS (Table 11)."""

SHAPES = {  # hidden, inside the MLP, layers, heads, KV heads, head_dim, tied
    "Llama-3.2-1B": (2048, 8192, 16, 32, 8, 64, True),
    "Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128, True),
    "Llama-3.1-8B": (4096, 14336, 32, 32, 8, 128, False),
}


KEPT = {"float32": Storage(), "bfloat16": Storage(frozen_bytes=2)}
KEPT["nf4"] = Storage(frozen_bytes=2, matrix_bytes=0.5625)
"""How frozen weights are kept (`optim.frozen_dtype`)."""


def main() -> None:
    """Prints two Markdown tables: how much less there is to compute, and how much to keep."""
    work = Workload.of([512] * 128, [256] * 128, 128)
    print("| full / this, in operations | rest_trains | LoRA | heads_only | top third | Table 11 |")
    print("|---|---|---|---|---|---|")
    for name in SHAPES:
        shape = shape_of(name)
        cells = [f"{1 / flops_vs_full(shape, plan, work):.2f}" for plan in plans(shape.geometry)]
        print(f"| {name} | {' | '.join(cells)} | {PAPER[name]:.2f} |")
    print(
        "\n| predicted GiB | full | heads_only, float32 | heads_only, bfloat16 | heads_only, nf4 |"
    )
    print("|---|---|---|---|---|")
    for name in SHAPES:
        shape = shape_of(name)
        chosen = plans(shape.geometry)[2]
        full = memory(shape, TrainingPlan(qkv="all", rest=True), Storage())
        cells = [f"{memory(shape, chosen, storage):.0f}" for storage in KEPT.values()]
        print(f"| {name} | {full:.0f} | {' | '.join(cells)} |")


def shape_of(name: str) -> ModelShape:
    """One of the paper's models."""
    hidden, inside, layers, heads, kv_heads, head_dim, tied = SHAPES[name]
    geometry = Geometry(
        num_layers=layers, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim
    )
    return ModelShape(
        geometry=geometry, hidden=hidden, intermediate=inside, vocab=128256, tied=tied
    )


def plans(geometry: Geometry) -> list[TrainingPlan]:
    """The columns of the first table."""
    draw, count = Random(0), geometry.count(0.1)
    top = [h for h in geometry.heads() if h[0] >= geometry.num_layers * 2 // 3]
    chosen = HeadSet(heads=tuple(draw.sample(geometry.heads(), count)), geometry=geometry)
    upper = HeadSet(heads=tuple(draw.sample(top, count)), geometry=geometry)
    lora = LoraShape(rank=128, alpha=128.0, targets=("q_proj", "k_proj", "v_proj"))
    return [
        TrainingPlan(qkv="heads", rest=True, heads=chosen),
        TrainingPlan(qkv="none", rest=False, lora=lora),
        TrainingPlan(qkv="heads", rest=False, heads=chosen),
        TrainingPlan(qkv="heads", rest=False, heads=upper),
    ]


def memory(shape: ModelShape, plan: TrainingPlan, storage: Storage) -> float:
    """Predicted GiB at the peak of a step."""
    mixed = replace(storage, activation_bytes=2, checkpointing=True)
    return peak_memory(shape, plan, 512, 256, mixed).total / 2**30


if __name__ == "__main__":
    main()
