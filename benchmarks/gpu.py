"""What training, evaluation and memory cost on one GPU, at the shapes of Llama-3 1B, 3B and 8B.

    python benchmarks/gpu.py --out benchmarks/gpu.md
    python benchmarks/gpu.py --models 1b --parts train,attention --rounds 3
    python benchmarks/gpu.py --tiny          # every part in seconds, also without a GPU

Weights are random and made on the device, examples are random tokens of mixed lengths: nothing is
downloaded. Trainings run in the project's own trainer. Each round measures every way once, the next
one in the opposite order; seconds are medians, ratios are taken within a round. A cell says "out
of memory" or why it failed, and the others go on. The report is written again after each table.

Parts:
    train: an optimizer step by what trains; memory predicted and measured.
    memory: peak memory with more tokens, and with activation checkpointing.
    gpu24: `preset=gpu24` at the largest model, in the memory of a 24 GB card.
    compile: the step under torch.compile, at the smallest model.
    attention: the kernel for packed examples beside a loop over them.
    loss: the loss in chunks, and Liger's, beside the loss at once.
    evaluate: tokens per second of our engine, lm-eval's and vLLM's, at the smallest model.
    localize: scores of an 8B-shaped pair of checkpoints (on the CPU; 5 GB of disk).
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
from collections.abc import Callable, Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The HF Trainer would take all GPUs. Must be set before CUDA starts.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import torch
from gpu_parts.evaluation import evaluate
from gpu_parts.kernels import attention, loss
from gpu_parts.localization import localize
from gpu_parts.models import MODELS
from gpu_parts.report import DEVICE, GIB, Report
from gpu_parts.training import compiled, gpu24, memory, train

from alps.base.provenance import git_state

PARTS: dict[str, Callable[[Report], None]] = {
    "train": train, "memory": memory, "gpu24": gpu24, "compile": compiled, "attention": attention,
    "loss": loss, "evaluate": evaluate, "localize": localize,
}  # fmt: skip
PACKAGES = ("torch", "transformers", "peft", "pytorch-lightning", "lm-eval", "liger-kernel", "vllm")


def conditions() -> str:
    """Device, versions and commit."""
    device = f"{platform.machine()}, {torch.get_num_threads()} threads; no GPU"
    if DEVICE.type == "cuda":
        found = torch.cuda.get_device_properties(DEVICE)
        device = f"{found.name}, {found.total_memory / GIB:.0f} GiB; CUDA {torch.version.cuda}"
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    commit, changed = git_state()
    return f"{device}; {', '.join(versions)}; commit {commit}{' with changes' if changed else ''}"


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """Type of an argument that lists some of these names, separated by commas."""

    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return found

    return parse


def main() -> None:
    """Entry point; exit code 1 if a measurement failed for another reason than memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = [name for name in MODELS if name != "tiny"]
    parser.add_argument("--models", type=names(models), default=models, help="smallest first")
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="measured steps of a training")
    parser.add_argument("--rows", type=int, default=8, help="examples of a step")
    parser.add_argument("--length", type=int, default=512, help="their mean length in tokens")
    parser.add_argument("--out", type=Path, help="file of the report")
    parser.add_argument("--scratch", type=Path, help="folder for checkpoints; default: TMPDIR")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of --models")
    given = parser.parse_args()
    report = Report(given)
    gc.collect()
    gc.freeze()  # modules stay: collections between measurements need not visit them
    report.say(conditions(), "", f"`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`")
    for name in given.parts:
        part = PARTS[name]
        failure = report.attempt(name, lambda part=part: part(report))
        if failure is not None:
            report.say("", f"### {name}: no table", "", failure.text)
    if report.failed:
        report.say("", "### Failed", "", *(f"- {text}" for text in report.failed))
        sys.exit(1)


if __name__ == "__main__":
    main()
