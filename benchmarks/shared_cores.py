"""How long a training step takes beside other work, by how idle OpenMP threads wait.

    python benchmarks/shared_cores.py

Interleaved: every round measures each of the twelve cells once, in a process of its own; the figure
is the median over rounds, as a ratio to the idle machine with OpenMP's default.
"""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping

from alps.base.openmp import VARIABLES

ROUNDS = 3
STEP = """
import time, torch
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.models.loss import answer_loss
from alps.config.build import build, compose_config

torch.manual_seed(0)
model = load_model(materialize(build(compose_config([])).model))
ids = torch.randint(10, 40000, (4, 80))
labels = ids.clone()
labels[:, :40] = -100
times = []
for _ in range(3):
    start = time.perf_counter()
    answer_loss(model, ids, labels).backward()
    times.append(time.perf_counter() - start)
print(sorted(times)[1])
"""


WAITING = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=300": {"GOMP_SPINCOUNT": "300"},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
}
TORCH = """
import torch
a = torch.randn(1024, 1024)
while True:
    a @ a
"""
OTHERS = {"none": None, "one busy loop": "while True: pass", "torch with two threads": TORCH}


def measure(waiting: Mapping[str, str], other: str | None) -> float:
    """Median of three forward and backward passes in a fresh process, in seconds."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    beside = subprocess.Popen([sys.executable, "-c", other], env=environment) if other else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEP],
            env=environment | waiting,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if beside:
            beside.kill()
    return float(done.stdout)


def main() -> None:
    """Prints the table."""
    import torch

    cells = [(waiting, other) for other in OTHERS for waiting in WAITING]
    seconds = {cell: [] for cell in cells}
    for _ in range(ROUNDS):
        for cell in cells:
            seconds[cell].append(measure(WAITING[cell[0]], OTHERS[cell[1]]))
    idle = statistics.median(seconds["default", "none"])
    print(f"torch {torch.__version__}, {os.cpu_count()} cores ({platform.machine()})")
    print(f"| other process | {' | '.join(WAITING)} |\n|---|{'---|' * len(WAITING)}")
    for other in OTHERS:
        ratios = [statistics.median(seconds[waiting, other]) / idle for waiting in WAITING]
        print(f"| {other} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
