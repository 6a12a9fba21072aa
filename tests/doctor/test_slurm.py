"""SLURM, by commands on the path that print what versions 22.05 and 24.05 do."""

import time

import pytest

from alps.doctor import context as context_module
from alps.doctor import slurm_cluster
from alps.doctor.commands import CommandFailed, output_of
from alps.doctor.fit import memory_of_runs
from alps.doctor.slurm import controller, jobs, limits, partitions
from alps.doctor.slurm_cluster import read_cluster

SINFO = """debug*|up|30:00|2|2|3900|(null)
gpu|up|2-00:00:00|12|64|515000|gpu:a100:4(S:0-1)
any|up|infinite|1|64|515000|gpu:1
old|inact|infinite|4|64|1000000|(null)
none|up|infinite|0|0|0|(null)
"""
CONFIG = """Configuration data as of 2024-05-02T11:11:11
ClusterName             = lab
JobRequeue              = {requeue}
MaxArraySize            = {array}
SLURM_VERSION           = 24.05.2
"""
ON_SLURM = "hydra/launcher=slurm"
GPU = (ON_SLURM, "hydra.launcher.partition=gpu", "hydra.launcher.gpus=1")


@pytest.fixture(autouse=True)
def commands_are_asked(bare_machine, monkeypatch):
    monkeypatch.setattr(context_module, "read_cluster", read_cluster)


@pytest.fixture
def cluster(command):
    """Commands of SLURM on the path, instead of any other."""

    def make(sinfo: str = SINFO, requeue: int = 1, array: int = 1001, submit: str = "") -> None:
        for name in ("sbatch", "srun", "squeue", "scancel"):
            command(name, "exit 1")
        command("sinfo", f"/bin/cat <<'END'\n{sinfo}END")
        config = CONFIG.format(requeue=requeue, array=array)
        command("scontrol", f"/bin/cat <<'END'\n{config}END")
        command("sacctmgr", f"echo '{submit}'")

    return make


def test_without_slurm_runs_go_to_this_machine(found, command):
    (finding,) = found(controller)
    assert (finding.state, finding.text) == ("info", "not on this machine: runs go to this machine")
    (finding,) = found(controller, ON_SLURM)
    assert finding.state == "missing"
    assert found(partitions) == found(limits) == found(jobs, ON_SLURM) == []


def test_commands_that_are_missing(found, cluster, tmp_path):
    cluster()
    (tmp_path / "bin" / "srun").unlink()
    (finding,) = found(controller)
    assert finding.state == "warning" and "srun not found" in finding.text
    assert [f.state for f in found(controller, ON_SLURM)] == ["missing"]


def test_a_controller_that_answers(found, cluster):
    cluster()
    (finding,) = found(controller)
    assert finding.state == "ok" and "lab answers, version 24.05.2; runs go there" in finding.text


def test_a_controller_that_does_not_answer(found, cluster, command, monkeypatch):
    cluster()
    command("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    (finding,) = found(controller)
    assert finding.state == "warning" and "Unable to contact slurm controller" in finding.text
    assert [f.state for f in found(controller, *GPU)] == ["missing"]
    command("sinfo", "while :; do :; done")
    monkeypatch.setattr(slurm_cluster, "output_of", lambda words: output_of(words, 0.2))
    start = time.monotonic()
    (finding,) = found(controller)
    assert finding.state == "warning" and "does not answer within 0.2 s" in finding.text
    assert time.monotonic() - start < 5


def test_partitions(found, cluster):
    cluster()
    debug, gpu, some, old, none = found(partitions)
    assert debug.name == "partition debug (default)" and "at most 0:30:00" in debug.text
    assert "at most 2-00:00:00, nodes of 64 CPUs, 503 GiB, 4 x a100 (12)" in gpu.text
    assert "no time limit" in some.text and "1 x GPU" in some.text
    assert (old.state, none.state, gpu.state) == ("warning", "warning", "ok")
    assert "it is down" in old.text and "no nodes" in none.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["partition=gpus", "gpus=1"], "there is no partition gpus"),
        (["partition=gpu", "gpus=5"], "gpus=5, but nodes of partition gpu have 4"),
        (["partition=gpu", "gpus=1", "cpus=65"], "cpus=65, but nodes of partition gpu have 64"),
        (["partition=gpu", "gpus=1", "mem=600G"], "mem=600G, but nodes of partition gpu have"),
        (["partition=gpu", "gpus=1", "time=3-00:00:00"], "longer than partition gpu allows"),
        ([], "time=24:00:00 is longer than partition debug allows, 0:30:00"),
    ],
)
def test_jobs_that_no_node_can_take(found, cluster, settings, text):
    cluster()
    findings = found(jobs, ON_SLURM, *(f"hydra.launcher.{setting}" for setting in settings))
    assert {f.state for f in findings} == {"missing"}
    assert any(text in f.text for f in findings), findings


def test_jobs_that_fit(found, cluster):
    cluster()
    (finding,) = found(jobs, *GPU)
    assert finding.state == "ok" and "1 GPUs, 4 CPUs, default memory" in finding.text
    assert found(jobs) == [], "nobody asked for jobs"


def test_jobs_without_a_gpu_of_a_partition_that_has_some(found, cluster):
    cluster()
    findings = found(jobs, *GPU[:2])
    assert [f.state for f in findings] == ["ok", "warning"]
    findings = found(jobs, *GPU[:2], "trainer.accelerator=gpu")
    assert [f.state for f in findings] == ["missing"]


def test_no_default_partition(found, cluster):
    cluster(SINFO.replace("*", ""))
    (finding,) = found(jobs, ON_SLURM)
    assert finding.state == "missing" and "no default partition" in finding.text


def test_limits(found, cluster):
    cluster(array=2)
    seeds = "seed=0,1,2"
    (finding,) = found(limits, seeds, *GPU)
    assert finding.state == "ok", "several arrays"
    assert "arrays of at most 2 (MaxArraySize); MaxSubmitJobs=unknown" in finding.text
    cluster(submit="2")
    (finding,) = found(limits, seeds, *GPU)
    assert finding.state == "missing"
    assert "more than the 2 jobs that you may submit" in finding.text


def test_the_gpus_of_a_partition_count(make_context, cluster, command):
    cluster()
    target = make_context().target
    assert (target.name, target.memory) == ("4 x a100 of SLURM partition gpu", 40)
    assert make_context(*GPU).target.count == 1
    assert make_context(*GPU[:2]).target.name == "CPUs of partition gpu"
    assert make_context("trainer.accelerator=cpu").target.on_gpu is False
    debug = make_context(ON_SLURM).target
    assert debug.name == "CPUs of partition debug" and debug.memory == 3900 / 1024
    h100 = SINFO.replace("gpu:a100", "gpu:nvidia_h100_80gb_hbm3")
    cluster(h100)
    assert make_context(*GPU).target.memory == 80


def test_gpus_of_unknown_memory(found, cluster):
    cluster()
    anything = (ON_SLURM, "hydra.launcher.partition=any", "hydra.launcher.gpus=1")
    (finding,) = found(memory_of_runs, *anything)
    assert finding.state == "warning" and "gpu= one of a100_40g" in finding.remedy
    (finding,) = found(memory_of_runs, *anything, "gpu=a100_80g", "node_devices=1")
    assert finding.state == "ok"


def test_reading_a_cluster_that_fails_in_the_middle(cluster, command):
    cluster()
    command("scontrol", "exit 1")
    assert read_cluster().problem == "scontrol fails: exit code 1"
    command("sacctmgr", "exit 1")
    cluster()
    command("sacctmgr", "echo 'You are not running a supported accounting_storage plugin'; exit 1")
    assert read_cluster().answers and read_cluster().max_submit is None


def test_commands(command):
    with pytest.raises(CommandFailed, match="no-such-command is not installed"):
        output_of(["no-such-command"])
    path = command("broken", "")
    path.write_bytes(b"\x7fELF damaged")
    with pytest.raises(CommandFailed, match="broken does not start"):
        output_of(["broken"])
    command("bytes", r"printf '\377'")
    assert output_of(["bytes"]) == "\N{REPLACEMENT CHARACTER}"
