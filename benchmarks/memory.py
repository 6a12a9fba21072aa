"""Predicted and measured peak memory of trainings, each in a process of its own.

    python benchmarks/memory.py --steps 6

Trains the default model on this machine's CPUs: in full, and the heads of `alps` in both scopes, on
one rank and on two, replicated (DDP) and sharded (FSDP). The figures are those of `training.json`:
the largest resident memory of a rank, with the program itself. The demo's runs are one process.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from alps.config.build import build, compose_config
from alps.models.checkpoint import materialize

METHODS = {
    "full": ["method=full"],
    "alps, rest_trains": ["method=alps"],
    "alps, heads_only": ["method=alps", "scope=heads_only"],
}
RANKS = {
    "1 rank": [],
    "2 ranks, DDP": ["trainer.devices=2"],
    "2 ranks, FSDP": ["trainer.devices=2", "trainer.strategy=fsdp"],
}
MIB = 2**20


def train(output_dir: Path, settings: Sequence[str]) -> None:
    """Trains in a new process."""
    command = [sys.executable, "-m", "alps.cli", "train", *settings, f"output_dir={output_dir}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def measure(output_dir: Path, settings: Sequence[str]) -> tuple[int, int]:
    """Predicted and measured bytes of one training."""
    folder = build(compose_config([*settings, f"output_dir={output_dir}"])).folder
    (folder / "training.json").unlink(missing_ok=True)  # of the same run on other ranks
    for path in (folder / "result.json", folder / "weights" / "trained.safetensors"):
        path.unlink(missing_ok=True)
    train(output_dir, settings)
    return figures(folder)


def figures(folder: Path) -> tuple[int, int]:
    """Predicted and measured bytes of a finished run."""
    found = json.loads((folder / "training.json").read_text())
    return found["predicted_memory_bytes"], found["peak_memory_bytes"]


def demo(output_dir: Path) -> None:
    """The runs of `make demo`, with two documents of each benchmark."""
    train(output_dir, ["experiment=demo", "evals.limit=2", "trainer.progress=off"])
    for folder in sorted((output_dir / "runs").iterdir()):
        row(f"demo, {folder.name.rpartition('-')[0]}", "1 rank", *figures(folder))


def row(*cells: str | int) -> None:
    """Prints one line of the table."""
    *names, predicted, measured = cells
    assert isinstance(predicted, int) and isinstance(measured, int)
    sizes = f"{predicted / MIB:.0f} | {measured / MIB:.0f} | {predicted / measured:.2f}"
    print(f"| {' | '.join(map(str, names))} | {sizes} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of each training")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("settings", nargs="*", help="further settings of all trainings")
    arguments = parser.parse_args()
    common = ["evals=none", "trainer.progress=off", "trainer.accelerator=cpu"]
    common += [f"optim.max_steps={arguments.steps}", *arguments.settings]
    materialize(build(compose_config(common)).model)  # converted here, not in a measured process
    print(f"{platform.machine()}, torch {version('torch')}, {platform.libc_ver()}\n")
    print("| what | where | predicted MiB | measured MiB | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in "demo":
            demo(Path(folder, "demo"))
        for where, ranks in RANKS.items():
            for what, method in METHODS.items():
                if arguments.only in f"{what}, {where}":
                    output_dir = Path(folder, "cells")
                    found = measure(output_dir, [*common, *method, *ranks])
                    row(what, where, *found)


if __name__ == "__main__":
    main()
