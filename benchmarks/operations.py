"""What Table 11 can be: operations of a step against full fine-tuning, on the paper's models.

Counted by `alps.cost`, nothing is run. 128 samples of 512 tokens, half of them answer; 10 % of the
heads drawn by chance, from all layers or from the top third.

    python benchmarks/operations.py
"""

from random import Random

from alps.cost.flops import Workload, flops_vs_full
from alps.cost.shape import ModelShape
from alps.heads import Geometry, HeadSet
from alps.models.plan import LoraShape, Plan

PAPER = {"Llama-3.2-1B": 2.02 / 0.40, "Llama-3.2-3B": 4.40 / 1.05, "Llama-3.1-8B": 7.67 / 2.18}
"""Hours of full fine-tuning over hours of ALPS (Table 11)."""

SHAPES = {  # hidden, inside the MLP, layers, heads, KV heads, head_dim, tied
    "Llama-3.2-1B": (2048, 8192, 16, 32, 8, 64, True),
    "Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128, True),
    "Llama-3.1-8B": (4096, 14336, 32, 32, 8, 128, False),
}


def main() -> None:
    """Prints one Markdown table: how many times less there is to compute."""
    work = Workload.of([512] * 128, [256] * 128, 128)
    print("| full / this, in operations | rest_trains | LoRA | heads_only | top third | Table 11 |")
    print("|---|---|---|---|---|---|")
    for name, (hidden, inside, layers, heads, kv_heads, head_dim, tied) in SHAPES.items():
        geometry = Geometry(
            num_layers=layers, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim
        )
        shape = ModelShape(
            geometry=geometry, hidden=hidden, intermediate=inside, vocab=128256, tied=tied
        )
        draw, count = Random(0), geometry.count(0.1)
        top = [h for h in geometry.heads() if h[0] >= layers * 2 // 3]
        chosen = HeadSet(heads=tuple(draw.sample(geometry.heads(), count)), geometry=geometry)
        upper = HeadSet(heads=tuple(draw.sample(top, count)), geometry=geometry)
        lora = LoraShape(rank=128, alpha=128.0, targets=("q_proj", "k_proj", "v_proj"))
        plans = [
            Plan(qkv="heads", rest=True, heads=chosen),
            Plan(qkv="none", rest=False, lora=lora),
            Plan(qkv="heads", rest=False, heads=chosen),
            Plan(qkv="heads", rest=False, heads=upper),
        ]
        cells = [f"{1 / flops_vs_full(shape, plan, work):.2f}" for plan in plans]
        print(f"| {name} | {' | '.join(cells)} | {PAPER[name]:.2f} |")


if __name__ == "__main__":
    main()
