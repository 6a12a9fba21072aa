"""Torch, GPUs, cores, memory and the sandbox on machines that lack them."""

import os
import tempfile

import pytest

from alps.doctor import machine
from alps.doctor.machine import (
    cores,
    gpus,
    main_memory,
    precision,
    sandbox,
    shared_memory,
    temporary_folder,
    torch,
)
from alps.doctor.resources import Cores, Memory
from alps.doctor.slurm_cluster import Cluster, parse_partitions
from alps.doctor.torch_build import Gpu, TorchBuild
from alps.evals.sandbox import availability

A100 = Gpu(name="NVIDIA A100", memory=80 * 2**30, capability=(8, 0))
V100 = Gpu(name="Tesla V100", memory=32 * 2**30, capability=(7, 0))
CUDA = {"version": "2.13.0+cu130", "cuda": "13.0"}
SMI = "echo 'Tesla V100, 470.82.01, 32510 MiB'"
GPU_CLUSTER = Cluster(partitions=parse_partitions("gpu*|up|1-00:00:00|4|64|500000|gpu:a100:4"))


def test_torch(found):
    (finding,) = found(torch, torch=TorchBuild(**CUDA))
    assert (finding.state, finding.text) == ("ok", "2.13.0+cu130, for CUDA 13.0")
    (finding,) = found(torch, torch=TorchBuild(problem="no libcudart"))
    assert finding.state == "missing" and "no libcudart" in finding.text


def test_gpus_that_torch_sees(found):
    new, old = found(gpus, torch=TorchBuild(**CUDA, gpus=[A100, V100]))
    assert (new.state, new.text) == ("ok", "NVIDIA A100, 80.0 GiB, bfloat16 and TF32")
    assert old.state == "warning" and "no bfloat16" in old.text


def test_no_gpu_is_missing_only_where_a_run_demands_one(found, command):
    (finding,) = found(gpus)
    assert (finding.state, finding.text) == ("info", "none: trainings run on the CPU")
    (finding,) = found(gpus, "trainer.accelerator=gpu")
    assert finding.state == "missing" and "trainer.accelerator=gpu asks for one" in finding.text
    (finding,) = found(gpus, "trainer.accelerator=gpu", cluster=GPU_CLUSTER)
    assert finding.state == "info" and "GPUs of SLURM's nodes" in finding.text


@pytest.mark.parametrize(
    ("build", "variable", "text"),
    [
        (TorchBuild(version="2.13.0+cpu"), None, "this torch is built for CPUs"),
        (TorchBuild(**CUDA, warnings=["CUDA: the driver is too old (found 11040)"]), None,
         "torch cannot use it: CUDA: the driver is too old (found 11040)"),
        (TorchBuild(**CUDA), "", "CUDA_VISIBLE_DEVICES hides it"),
        (TorchBuild(**CUDA), None, "torch sees none"),
    ],
)  # fmt: skip
def test_a_gpu_that_only_the_driver_sees(found, command, monkeypatch, build, variable, text):
    command("nvidia-smi", SMI)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    (finding,) = found(gpus, torch=build)
    assert finding.state == "warning" and finding.remedy
    assert text in finding.text and "Tesla V100 (driver 470.82.01, 32510 MiB)" in finding.text
    assert [f.state for f in found(gpus, "trainer.accelerator=gpu", torch=build)] == ["missing"]


def test_a_driver_that_hangs_or_fails_is_no_gpu(found, command):
    command("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert [f.state for f in found(gpus)] == ["info"]


def test_bfloat16_on_a_gpu_without(found):
    bf16 = ("optim.precision=bf16-mixed",)
    assert found(precision, *bf16, torch=TorchBuild(**CUDA, gpus=[A100])) == []
    assert found(precision, torch=TorchBuild(**CUDA, gpus=[V100])) == []
    (finding,) = found(precision, *bf16, torch=TorchBuild(**CUDA, gpus=[V100]))
    assert finding.state == "warning" and "no bfloat16" in finding.text


@pytest.mark.parametrize(
    ("found_cores", "threads", "state", "text"),
    [
        (Cores(machine=8, allowed=8, quota=None), None, "ok", "8"),
        (Cores(machine=8, allowed=2, quota=None), None, "ok", "2 of 8, by the affinity"),
        (Cores(machine=8, allowed=1, quota=None), None, "warning", "share it"),
        (Cores(machine=8, allowed=8, quota=2.5), None, "warning", "the time of 2.5"),
        (Cores(machine=8, allowed=8, quota=2.5), "2", "ok", "2.5 by the cgroup"),
        (Cores(machine=8, allowed=8, quota=2.5), "8", "warning", "the time of 2.5"),
    ],
)
def test_cores(found, monkeypatch, found_cores, threads, state, text):
    monkeypatch.setattr(machine, "cpu_cores", lambda: found_cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    (finding,) = found(cores)
    assert finding.state == state and text in finding.text


def test_the_affinity_of_this_process_counts(found):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        (finding,) = found(cores)
    finally:
        os.sched_setaffinity(0, before)
    assert finding.state == "warning" and finding.text.startswith("1")


def test_memory_that_others_use(found):
    free = Memory(total=64 * 2**30, free=60 * 2**30, limited=False)
    assert [f.state for f in found(main_memory, memory=free)] == ["ok"]
    (finding,) = found(main_memory, memory=Memory(total=2**33, free=2**20, limited=True))
    assert finding.state == "warning" and "8.0 GiB by the cgroup" in finding.text
    assert [f.state for f in found(main_memory, memory=None)] == ["warning"]


def test_beside_a_gpu_the_weights_need_main_memory(found):
    """8B weights in float32 are 30 GiB, which pass through main memory to the GPU."""
    build = TorchBuild(**CUDA, gpus=[A100])
    little = Memory(total=64 * 2**30, free=8 * 2**30, limited=False)
    settings = ("model=llama3_1_8b", "data=mini_math", "evals=none", "method=random")
    (finding,) = found(main_memory, *settings, tiny=False, torch=build, memory=little)
    assert finding.state == "warning" and "about 29.9 GiB" in finding.text


def test_shared_memory(found, monkeypatch):
    status = os.statvfs("/")

    def of(free: int):
        values = list(status)
        values[1], values[4] = 1, free  # f_frsize, f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(machine.os, "statvfs", lambda path: of(2**33))
    assert [f.state for f in found(shared_memory)] == ["ok"]
    monkeypatch.setattr(machine.os, "statvfs", lambda path: of(64 * 2**20))
    assert [f.state for f in found(shared_memory)] == ["info"]
    (finding,) = found(shared_memory, "trainer.devices=2")
    assert finding.state == "warning" and "--shm-size" in finding.remedy


def test_a_temporary_folder_that_cannot_be_written_to(found, monkeypatch, tmp_path):
    assert [f.state for f in found(temporary_folder)] == ["ok"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    (finding,) = found(temporary_folder)
    assert finding.state == "missing" and "TMPDIR" in finding.remedy


@pytest.fixture
def fresh_sandbox():
    """The sandbox is tested once in a process; here anew."""
    availability.available_backend.cache_clear()
    availability.unavailable_reason.cache_clear()
    yield
    availability.available_backend.cache_clear()
    availability.unavailable_reason.cache_clear()


@pytest.mark.parametrize(
    ("settings", "state", "text"),
    [
        ((), "warning", "HumanEval, MBPP and mini_code are refused"),
        (("evals=[humaneval,mbpp]",), "missing", "humaneval, mbpp are refused"),
        (("evals=mini", "data=mini_code"), "warning", "mini_code is skipped"),
        (("evals=[humaneval]", "evals.allow_unsafe_code=true"), "warning", "run unprotected"),
    ],
)
def test_no_bubblewrap(found, command, fresh_sandbox, settings, state, text):
    (finding,) = found(sandbox, *settings)
    assert finding.state == state and text in finding.text
    assert "not installed" in finding.text and "apt install bubblewrap" in finding.remedy


def test_a_bubblewrap_that_does_not_isolate(found, command, fresh_sandbox):
    command("bwrap", "echo 'No permissions to create new namespace' >&2; exit 1")
    (finding,) = found(sandbox, "evals=[mbpp]")
    assert finding.state == "missing" and "does not isolate here (does not start)" in finding.text
    assert "namespaces" in finding.remedy


@pytest.mark.sandbox
def test_a_bubblewrap_that_isolates(found):
    assert [f.state for f in found(sandbox)] == ["ok"]
