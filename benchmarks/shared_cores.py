"""How long a training step takes while another process keeps one core busy, by OpenMP wait policy.

    python benchmarks/shared_cores.py

Interleaved: every round measures each of the four cells once, in a process of its own; the figure
is the median over rounds, as a ratio to the idle machine with OpenMP's default policy.
"""

import os
import platform
import statistics
import subprocess
import sys

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


def measure(policy: str | None, busy: bool) -> float:
    """Median of three forward and backward passes in a fresh process, in seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEP],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if other:
            other.kill()
    return float(done.stdout)


def main() -> None:
    """Prints the table."""
    import torch

    cells = [(policy, busy) for busy in (False, True) for policy in (None, "passive")]
    seconds = {cell: [] for cell in cells}
    for _ in range(ROUNDS):
        for cell in cells:
            seconds[cell].append(measure(*cell))
    idle = statistics.median(seconds[(None, False)])
    print(f"torch {torch.__version__}, {os.cpu_count()} cores ({platform.machine()})")
    print("| other process | default | passive |\n|---|---|---|")
    for busy, name in ((False, "none"), (True, "one busy loop")):
        ratios = [statistics.median(seconds[(p, busy)]) / idle for p in (None, "passive")]
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
