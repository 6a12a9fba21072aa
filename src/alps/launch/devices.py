"""`trainer.devices=auto`: the devices that a training takes on this machine.

Precision and key follow from other settings, so results do not depend on what is resolved here.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from alps.cost.memory import peak_memory
from alps.cost.micro_batch import USABLE_MEMORY
from alps.cost.placement import Placement, place
from alps.cost.shape import ModelShape
from alps.cost.storage import storage
from alps.methods.expected_plan import expected_plan
from alps.models.checkpoint import materialize
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Trainer
from alps.settings.run import Run

MEMORY_SCRIPT = (
    "import json, torch; print(json.dumps([torch.cuda.get_device_properties(i).total_memory "
    "for i in range(torch.cuda.device_count())]))"
)


def resolve_devices(run: Run) -> Run:
    """The run with a number for `trainer.devices=auto`, and the strategy that goes with it.

    With several nodes, all visible GPUs of each.
    """
    trainer = run.trainer
    if trainer.devices != "auto":
        return run
    gpus = num_gpus(trainer)
    if gpus <= 1:
        return replace(run, trainer=replace(trainer, devices=1))
    placement = _placement(run, gpus)
    devices = gpus if trainer.num_nodes > 1 else placement.devices
    strategy = trainer.strategy
    if strategy == "auto" and devices > 1:
        strategy = placement.strategy
    return replace(run, trainer=replace(trainer, devices=devices, strategy=strategy))


def device_problems(run: Run) -> Iterator[str]:
    """Sentences about a run or its task model that its devices cannot hold in its precision."""
    needed: Run | None = run
    while needed is not None:
        if not RunFolder(needed.folder).training_path.exists():
            resolved = resolve_devices(needed)
            for problem in resolved.problems() if resolved is not needed else ():
                yield (
                    f"{needed.key} ({needed.model.name}) fits no single device, so it is sharded "
                    f"over {resolved.trainer.devices}: {problem}"
                )
        needed = needed.task_run()


def num_gpus(trainer: Trainer) -> int:
    """Visible GPUs that the trainer may use; 0 for a CPU."""
    if trainer.accelerator == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def num_parallel(trainer: Trainer) -> int:
    """Runs of a sweep that run at once on this machine."""
    if trainer.num_nodes > 1:
        return 1  # each run takes all devices of all nodes
    return max(1, num_gpus(trainer)) if trainer.parallel == "auto" else trainer.parallel


def _placement(run: Run, gpus: int) -> Placement:
    from alps.data.encoding.dataset import encoded_dataset
    from alps.models.load import context_length, load_tokenizer

    base = materialize(run.model)
    rows = encoded_dataset(run.data, load_tokenizer(base), context=context_length(base))
    length = int(rows.lengths.max())
    answers = math.ceil(length * float((rows.num_answers / rows.lengths).max()))
    shape = ModelShape.read(base)
    stored = storage(run, run.precision_on(gpu=True), on_gpu=True)
    plan = expected_plan(run.method, shape.geometry, run.seed)

    def peak(examples: int) -> int:
        return peak_memory(shape, plan, examples * length, examples * answers, stored).total

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return place(peak, int(USABLE_MEMORY * min(_gpu_memory(visible))), gpus)


@cache
def _gpu_memory(visible: str | None) -> list[int]:
    """Total memory of each visible GPU; asked in a process of its own, as asking occupies them.

    Args:
        visible: `CUDA_VISIBLE_DEVICES`.
    """
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])
