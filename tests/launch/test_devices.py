"""`trainer.devices=auto`: one device for what fits one, else all, and nothing else changes."""

import json
from dataclasses import replace

import pytest

from alps.base.key import canonical
from alps.cost.micro_batch import USABLE_MEMORY
from alps.execute import execute
from alps.launch import devices
from alps.launch.devices import device_problems, num_parallel, resolve_devices
from alps.launch.ranks import fit_on_devices
from alps.runs.folder import RunFolder


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are GPUs of the given memory in bytes."""

    def pretend(*memory: int) -> None:
        monkeypatch.setattr(
            devices, "num_gpus", lambda t: 0 if t.accelerator == "cpu" else len(memory)
        )
        monkeypatch.setattr(devices, "_gpu_memory", lambda visible: list(memory))

    return pretend


def resolved(run) -> tuple[int, str]:
    trainer = resolve_devices(run).trainer
    return trainer.devices, trainer.strategy


def test_without_gpu_or_with_one_auto_is_one(make_run, gpus):
    gpus()
    assert resolved(make_run("method=full")) == (1, "auto")
    gpus(1)  # too small, but there is no other
    assert resolved(make_run("method=full")) == (1, "auto")
    gpus(1, 1)
    assert resolved(make_run("method=full", "trainer.accelerator=cpu")) == (1, "auto")


def test_what_fits_takes_one_device_and_what_does_not_takes_all_sharded(make_run, gpus):
    run = make_run("method=full")
    peak = peak_of(run, gpus)
    enough = int(peak / USABLE_MEMORY) + 1
    gpus(enough, enough, enough)
    assert resolved(run) == (1, "auto")
    gpus(enough, enough, enough - 2)  # the smallest counts
    assert resolved(run) == (3, "fsdp")
    assert resolved(make_run("method=full", "trainer.strategy=ddp")) == (3, "ddp")
    assert resolved(make_run("method=full", "trainer.devices=2")) == (2, "auto")


def peak_of(run, gpus) -> int:
    """Bytes at which the run begins to fit, by bisection."""
    low, high = 1, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        gpus(middle, middle)
        low, high = (low, middle) if resolved(run)[0] == 1 else (middle, high)
    return int(high * USABLE_MEMORY)


def test_several_nodes_take_all_devices_of_each(make_run, gpus):
    gpus(1 << 40, 1 << 40)
    run = resolve_devices(make_run("method=full", "trainer.num_nodes=2"))
    assert (run.trainer.world_size, run.strategy) == (4, "ddp")
    gpus(1, 1)
    run = resolve_devices(make_run("method=full", "trainer.num_nodes=2"))
    assert (run.trainer.world_size, run.strategy) == (4, "fsdp")


@pytest.mark.parametrize("precision", ["bf16-mixed", "32", "auto"])
def test_neither_key_nor_precision_depends_on_it(make_run, gpus, precision):
    gpus(1, 1)
    run = make_run("method=full", f"optim.precision={precision}")
    sharded = resolve_devices(run)
    assert sharded.strategy == "fsdp"
    assert (sharded.key, sharded.precision) == (run.key, run.precision)
    assert canonical(sharded) == canonical(run)


def test_a_run_that_would_need_another_precision_is_refused(make_run, gpus):
    run = make_run("method=full", "optim.precision=16-mixed")
    gpus(1, 1)
    (problem,) = device_problems(run)
    assert problem.startswith(f"{run.key} (tiny) fits no single device, so it is sharded over 2")
    assert "has no fp16" in problem
    gpus(1 << 40, 1 << 40)
    assert not list(device_problems(run))
    gpus(1, 1)
    model = replace(run.model, sharded=True)  # such a model is in bf16-mixed everywhere
    assert not list(device_problems(replace(run, model=model)))


def test_a_task_model_is_resolved_by_itself(make_run, gpus):
    """`full` may need all devices where heads alone fit one."""
    run = make_run("method=alps", "scope=heads_only", "optim.precision=16-mixed")
    fits = int(peak_of(run, gpus) / USABLE_MEMORY) + 1
    gpus(fits, fits)
    assert resolved(run) == (1, "auto")
    task = run.task_run()
    assert task is not None and task.trainer.devices == "auto" and resolved(task) == (2, "fsdp")
    (problem,) = device_problems(run)
    assert problem.startswith(task.key)


def test_what_was_resolved_is_recorded(make_run):
    run = make_run("method=random", "optim.max_steps=1", "data.max_examples=8")
    execute(run, fit_on_devices)
    folder = RunFolder(run.folder)
    assert run.trainer.devices == "auto" and folder.read_run().trainer.devices == 1
    measured = json.loads(folder.training_path.read_text())
    assert (measured["devices"], measured["num_nodes"], measured["strategy"]) == (1, 1, "single")


def test_as_many_runs_at_once_as_gpus(make_run, gpus):
    gpus(1, 1, 1)
    assert num_parallel(make_run().trainer) == 3
    assert num_parallel(make_run("trainer.parallel=2").trainer) == 2
    assert num_parallel(make_run("trainer.num_nodes=2").trainer) == 1
    assert num_parallel(make_run("trainer.accelerator=cpu").trainer) == 1
    gpus()
    assert num_parallel(make_run().trainer) == 1
