"""Torch, GPUs, cores, memory, shared memory and the sandbox."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from alps.doctor.commands import CommandFailed, output_of
from alps.doctor.context import Context
from alps.doctor.finding import Finding, check
from alps.doctor.resources import cpu_cores
from alps.plan.assumptions import GIB

SHARED_MEMORY = Path("/dev/shm")
NVIDIA_SMI = (
    "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader",
)  # fmt: skip
NCCL_BYTES = GIB
"""Shared memory with which ranks on several GPUs of a machine surely start."""


@check
def torch(context: Context) -> Iterator[Finding]:
    """The build of torch."""
    build = context.torch
    if build.problem:
        text = f"cannot be imported ({build.problem}): nothing runs"
        yield Finding(name="torch", state="missing", text=text, remedy="install it again")
        return
    kind = f"CUDA {build.cuda}" if build.cuda else f"ROCm {build.rocm}" if build.rocm else "CPU"
    yield Finding(name="torch build", state="ok", text=f"{build.version}, for {kind}")


@check
def gpus(context: Context) -> Iterator[Finding]:
    """The driver, and the GPUs that torch sees."""
    build, installed = context.torch, _gpus_of_driver()
    for gpu in build.gpus:
        has = "bfloat16 and TF32" if gpu.has_bfloat16 else "no bfloat16 and no TF32: use fp16 or 32"
        text = f"{gpu.name}, {gpu.memory / GIB:.1f} GiB, {has}"
        yield Finding(name="GPU", state="ok" if gpu.has_bfloat16 else "warning", text=text)
    if build.gpus:
        return
    elsewhere = context.slurm is not None or bool(context.gpu_nodes)
    demanded = any(e.run.trainer.accelerator == "gpu" for e in context.untrained) and not elsewhere
    costs = "" if elsewhere else ": trainings run on the CPU"
    if installed:
        what, remedy = f"nvidia-smi lists {'; '.join(installed)}, but ", ""
        if build.warnings:
            why = build.warnings[0].split(" (Triggered")[0]
            what, remedy = f"{what}torch cannot use it: {why}", "a newer driver, or an older torch"
        elif build.cuda is None and build.rocm is None:
            what, remedy = f"{what}this torch is built for CPUs", "install torch for CUDA"
        elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):
            what, remedy = f"{what}CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES"
        else:
            what, remedy = (
                f"{what}torch sees none",
                "see python -c 'import torch; torch.cuda.init()'",
            )
        state = "missing" if demanded else "warning"
        yield Finding(name="GPU", state=state, text=f"{what}{costs}", remedy=remedy)
    elif elsewhere:
        text = "none on this machine, which is no failure: jobs get the GPUs of SLURM's nodes"
        yield Finding(name="GPU", state="info", text=text)
    else:
        text = "none" + (", but trainer.accelerator=gpu asks for one" if demanded else costs)
        remedy = "trainer.accelerator=auto" if demanded else ""
        state = "missing" if demanded else "info"
        yield Finding(name="GPU", state=state, text=text, remedy=remedy)


def _gpus_of_driver() -> list[str]:
    """GPUs as the driver lists them, whether torch can use them or not."""
    try:
        lines = output_of(NVIDIA_SMI).splitlines()
    except CommandFailed:
        return []
    parts = [[part.strip() for part in entry.split(",")] for entry in lines]
    return [f"{p[0]} (driver {p[1]}, {p[2]})" for p in parts if len(p) == 3]


@check
def precision(context: Context) -> Iterator[Finding]:
    """Whether the GPUs of this machine have the precision of the runs."""
    if not context.torch.gpus or context.slurm or context.device_given:
        return
    lacking = [gpu.name for gpu in context.torch.gpus if not gpu.has_bfloat16]
    asked = {e.run.precision for e in context.untrained if "bf16" in str(e.run.precision)}
    if lacking and asked:
        text = f"{lacking[0]} has no bfloat16, which optim.precision={min(asked)} asks for: slow"
        yield Finding(
            name="precision", state="warning", text=text, remedy="optim.precision=16-mixed"
        )


@check
def cores(context: Context) -> Iterator[Finding]:
    """CPU cores that this process may use."""
    found = cpu_cores()
    text = f"{found.allowed}"
    if found.allowed < found.machine:
        text += f" of {found.machine}, by the affinity of this process"
    usable = min(found.allowed, found.quota or found.allowed)
    if found.quota is None or found.quota >= found.allowed:
        state = "ok" if found.allowed > 1 else "warning"
        text += "" if found.allowed > 1 else ": training, encoding and judging share it"
        yield Finding(name="CPU cores", state=state, text=text)
        return
    text += f", but the cgroup grants the time of {found.quota:g}: threads get in each other's way"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) <= max(1, usable):
        text = f"{found.quota:g} by the cgroup, OMP_NUM_THREADS={threads}"
        yield Finding(name="CPU cores", state="ok", text=text)
        return
    remedy = f"export OMP_NUM_THREADS={max(1, int(usable))}"
    yield Finding(name="CPU cores", state="warning", text=text, remedy=remedy)


@check
def main_memory(context: Context) -> Iterator[Finding]:
    """Main memory, and whether as much as the runs need is free now."""
    memory = context.memory
    if memory is None:
        yield Finding(name="memory", state="warning", text="unknown: /proc/meminfo cannot be read")
        return
    text = f"{memory.total / GIB:.1f} GiB{' by the cgroup' * memory.limited}, "
    text += f"{memory.free / GIB:.1f} GiB free"
    state, remedy, needed = "ok", "", _needed_here(context)
    if memory.free < needed <= memory.total:
        text += f"; a run needs about {needed / GIB:.1f} GiB"
        state, remedy = "warning", "end other programs, or the kernel may end the run"
    yield Finding(name="memory", state=state, text=text, remedy=remedy)


def _needed_here(context: Context) -> int:
    """Main memory of one run: on a CPU all of it, beside a GPU the weights while they load."""
    if context.slurm is not None or context.device_given:
        return 0
    costs = [cost for each in context.untrained if (cost := context.plan.costs[each.key])]
    if not context.target.on_gpu:
        return max((cost.memory for cost in costs), default=0)
    from alps.doctor.disk import weight_bytes

    return max((weight_bytes(each.run.model, 4) for each in context.untrained), default=0)


@check
def shared_memory(context: Context) -> Iterator[Finding]:
    """Shared memory, through which ranks on GPUs of one machine exchange gradients."""
    costs = [c for each in context.untrained if (c := context.plan.costs[each.key])]
    several = any(cost.devices > 1 for cost in costs) and context.slurm is None
    try:
        place = os.statvfs(SHARED_MEMORY)
        free = place.f_bavail * place.f_frsize
    except OSError:
        free = 0
    text = f"{free / GIB:.1f} GiB free in {SHARED_MEMORY}"
    if free >= NCCL_BYTES:
        yield Finding(name="shared memory", state="ok", text=text)
        return
    text += ": ranks that share a training on several GPUs may fail to start"
    state = "warning" if several else "info"
    remedy = "docker run --shm-size=8g, or NCCL_SHM_DISABLE=1"
    yield Finding(name="shared memory", state=state, text=text, remedy=remedy)


@check
def temporary_folder(context: Context) -> Iterator[Finding]:
    """The folder of temporary files, which the sandbox and preflight checks need."""
    try:
        with tempfile.NamedTemporaryFile(prefix="alps-doctor-") as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        text = f"no file can be written to a temporary folder ({error.strerror or error})"
        remedy = "set TMPDIR to a folder on a disk with space"
        yield Finding(name="TMPDIR", state="missing", text=text, remedy=remedy)
        return
    yield Finding(name="TMPDIR", state="ok", text=tempfile.gettempdir())


@check
def sandbox(context: Context) -> Iterator[Finding]:
    """The sandbox of generated code, by the test that evaluation itself makes."""
    from alps.evals.sandbox.availability import (
        available_backend,
        isolation_failures,
    )
    from alps.evals.sandbox.backend import INSTALL, installed_backend

    if available_backend() is not None:
        yield Finding(name="bubblewrap", state="ok", text="generated code runs isolated")
        return
    code = [(run, b) for run, b in context.benchmarks if b.runs_generated_code]
    names = ", ".join(sorted({b.name for _, b in code})) or "HumanEval, MBPP and mini_code"
    refused = [b for run, b in code if b in run.evals.refused]
    unsafe = [b for run, b in code if run.evals.allow_unsafe_code]
    skipped = [b for b in code if b[1] not in refused and b[1] not in unsafe]
    fate = "refused" if refused or not code else "skipped" if skipped else "run unprotected"
    state = "missing" if refused else "warning"
    reason, remedy = "not installed", INSTALL
    if (backend := installed_backend()) is not None:
        reason = f"does not isolate here ({isolation_failures(backend)})"
        remedy = "allow unprivileged user namespaces; as root in a container, SYS_ADMIN"
    are = "is" if "," not in names and " and " not in names else "are"
    text = f"{reason}: {names} {are} {fate}"
    yield Finding(name="bubblewrap", state=state, text=text, remedy=remedy)
