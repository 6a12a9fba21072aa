"""Runs that fit no device, or that `alps train` would refuse."""

import json

import pytest

from alps.doctor.finding import Finding
from alps.doctor.fit import devices, memory_of_runs, start
from alps.doctor.resources import Memory
from alps.doctor.torch_build import Gpu, TorchBuild

LLAMA = ("model=llama3_2_1b", "data=mini_math", "evals=none")
SMALL = Memory(total=2**30, free=2**30, limited=False)


def build(*sizes: int) -> TorchBuild:
    gpus = [Gpu(name="NVIDIA X", memory=size * 2**30, capability=(8, 0)) for size in sizes]
    return TorchBuild(version="2.13.0", cuda="13.0", gpus=gpus)


def test_memory_on_a_cpu(found):
    (finding,) = found(memory_of_runs)
    assert finding.state == "ok" and "the CPU of this machine" in finding.text
    (finding,) = found(memory_of_runs, "model=smollm2_135m_q4", memory=SMALL)
    assert finding.state == "missing" and "does not fit: smollm2_135m_q4 (full)" in finding.text
    (finding,) = found(memory_of_runs, memory=None)
    assert finding.state == "warning" and "is unknown" in finding.text


def test_memory_on_gpus(found):
    settings = (*LLAMA, "method=full")
    (finding,) = found(memory_of_runs, *settings, tiny=False, torch=build(80))
    assert finding.state == "ok" and "1 x NVIDIA X of this machine (80.0 GiB)" in finding.text
    (finding,) = found(memory_of_runs, *settings, tiny=False, torch=build(8))
    assert finding.state == "missing" and "preset=gpu24" in finding.remedy
    (finding,) = found(memory_of_runs, *settings, tiny=False, torch=build(24, 8))
    assert "(8.0 GiB)" in finding.text, "the smallest counts"


def test_a_device_that_is_named(found):
    big = ("model=llama3_1_8b", "data=mini_math", "evals=none", "method=full", "node_devices=1")
    (finding,) = found(memory_of_runs, *big, "gpu=a100_80g", tiny=False)
    assert finding.state == "missing" and "1 x gpu=a100_80g, as you say" in finding.text
    (finding,) = found(memory_of_runs, *big, "gpu=h200_141g", tiny=False)
    assert finding.state == "missing" or "GiB a device" in finding.text


def test_models_of_unknown_shape(found):
    (finding,) = found(memory_of_runs, "model.path=somebody/some-model", torch=build(24))
    assert finding.state == "warning" and "some-model unknown" in finding.text.replace(
        "of tiny", ""
    )


def test_more_devices_than_there_are(found):
    assert [f.state for f in found(devices, torch=build(24))] == ["ok"]
    (finding,) = found(devices, "trainer.devices=4", torch=build(24))
    assert finding.state == "missing" and "trainer.devices=4, but there are 1 x" in finding.text
    assert [f.state for f in found(devices, "trainer.devices=2")] == ["ok"], "ranks of a CPU"


def test_sharding_that_the_settings_forbid(found):
    big = ("model=llama3_2_3b", "data=mini_math", "evals=none", "method=full")
    gpus = build(24, 24, 24, 24, 24, 24, 24, 24)
    (finding,) = found(devices, *big, "optim.precision=16-mixed", tiny=False, torch=gpus)
    assert finding.state == "missing" and "is sharded over 8 devices" in finding.text
    assert [f.state for f in found(devices, *big, tiny=False, torch=gpus)] == ["ok"]


def test_what_alps_train_refuses(found, tmp_path):
    (finding,) = found(start)
    assert finding.state == "ok" and "1 run pass the checks" in finding.text
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "a"}) + "\n")
    (finding,) = found(start, "data=jsonl", f"data.path={rows}", "seed=0,1")
    assert finding.state == "missing" and "row 1 of" in finding.text and "2 runs" in finding.text


def test_the_checks_of_alps_train_come_last(found):
    missing = [Finding(name="a", state="missing", text="b")]
    (finding,) = found(start, findings=missing)
    assert finding.state == "info" and "something is missing already" in finding.text
    (finding,) = found(start, to_download=["model a"])
    assert finding.state == "info" and "need model a here" in finding.text


@pytest.mark.parametrize("check", [memory_of_runs, devices])
def test_trained_runs_need_no_device(found, monkeypatch, check):
    settings = ("model=smollm2_135m_q4", "trainer.devices=4")
    values = {"torch": build(1), "memory": SMALL}
    assert "missing" in {f.state for f in found(check, *settings, **values)}
    monkeypatch.setattr("alps.plan.stages.run_state", lambda variants: ("trained", None))
    assert {f.state for f in found(check, *settings, **values)} <= {"ok"}
