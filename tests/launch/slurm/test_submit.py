"""What is asked of SLURM, without one: a script in place of `sbatch` keeps what it is given."""

import os
import re
from pathlib import Path

import pytest

from alps.execute import execute
from alps.launch import slurm
from alps.launch.ranks import fit_on_devices
from alps.launch.slurm import (
    executor_parameters,
    missing_runs,
    queued_jobs,
    submit,
    too_few_gpus,
    wait_for_jobs,
)
from alps.launch.slurm_settings import Slurm

SBATCH = """#!/bin/bash
number=$(($(ls {kept} | wc -l) + 7))
{{ env | grep '^SLURM_\\|^SBATCH_' | sed 's/^/# /'; cat "$1"; }} >{kept}/$number
echo "Submitted batch job $number"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Commands of SLURM on the path; returns the scripts that were submitted."""
    bin_dir, kept = tmp_path / "bin", tmp_path / "kept"
    bin_dir.mkdir()
    kept.mkdir()

    def command(name: str, text: str) -> None:
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)

    command("sbatch", SBATCH.format(kept=kept))
    for name in ("srun", "squeue", "scontrol"):
        command(name, "#!/bin/bash\n")
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    command.scripts = lambda: [p.read_text() for p in sorted(kept.iterdir(), key=lambda p: p.name)]
    return command


def test_what_is_left_out_is_not_asked_for():
    asked = executor_parameters(
        Slurm(account="lab", mem="8G", setup=("module load cuda",)), after="7_1"
    )
    assert (asked["account"], asked["mem"], asked["dependency"]) == ("lab", "8G", "afterany:7_1")
    assert asked["setup"][0] == "module load cuda"
    assert not {"partition", "gpus_per_node", "qos"} & set(asked)


def test_who_needs_a_task_model_waits_for_its_job(make_run, cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # as in a job of our own
    monkeypatch.setenv("SLURM_CONF", "/somewhere")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    alps, random = make_run("method=alps"), make_run("method=random")
    full = make_run("method=full")
    runs = missing_runs([alps, random, make_run("method=kl")])
    assert {run.key for run in runs} > {full.key, alps.key, random.key} and len(runs) == 4
    jobs, refused = submit(runs, Slurm(parallel=2), tmp_path / "jobs")
    assert not refused
    first, second = cluster.scripts()
    assert "--array=0-1%2" in first and "dependency" not in first
    assert {jobs[full.key], jobs[random.key]} == {"7_0", "7_1"}
    assert f"--dependency=afterany:{jobs[full.key]}\n" in second and jobs[alps.key][:2] == "8_"
    for script in (first, second):
        assert "# SLURM_CONF=/somewhere" in script and "# SBATCH_ACCOUNT=lab" in script
        assert "SLURM_NTASKS" not in script
    assert os.environ["SLURM_NTASKS"] == "4"


def test_only_what_is_missing_is_submitted(make_run):
    full, alps = make_run("method=full"), make_run("method=alps")
    assert [r.key for r in missing_runs([alps])] == [full.key, alps.key]
    assert len(missing_runs([alps, full])) == 2
    execute(full, fit_on_devices)
    assert [r.key for r in missing_runs([alps, full])] == [alps.key]
    execute(alps, fit_on_devices)
    assert missing_runs([alps, full]) == []


def test_a_refusal_of_the_cluster_is_one_sentence(alps, cluster):
    cluster("sbatch", "#!/bin/bash\necho 'sbatch: error: invalid partition: gpus' >&2; exit 1\n")
    settings = ("model=tiny", "evals=none", "data.max_examples=16", "hydra.launcher.partition=gpus")
    done = alps("train", "-m", "hydra/launcher=slurm", "method=full,random", *settings, check=2)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: sbatch did not take the jobs (invalid partition: gpus)")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=full"], "add -m"),
        (["-m", "method=full", "hydra.launcher.time=soon"], "hydra.launcher.time=soon"),
        (["-m", "method=full", "hydra.launcher.gpus=1", "trainer.devices=2"], "ask for as many"),
        (["-m", "method=full", "trainer=ddp"], "the jobs ask for none: set hydra.launcher.gpus=8"),
    ],
)
def test_what_is_refused_before_anything_is_made(alps, cluster, tmp_path, arguments, words):
    done = alps("train", "hydra/launcher=slurm", "model=tiny", "evals=none", *arguments, check=2)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/runs/*")) and not cluster.scripts()


@pytest.mark.parametrize(
    ("trainer", "settings", "problem"),
    [
        (["trainer=ddp"], {}, "trainer=ddp trains on GPUs .* none: set hydra.launcher.gpus=8"),
        (["trainer.accelerator=gpu"], {}, "trainer=auto trains on GPUs .*launcher.gpus=1"),
        (["trainer=ddp"], {"gpus": 0}, "gpus=0 is fewer than trainer.devices=8"),
        (["trainer=ddp"], {"additional": {"gres": "gpu:8"}}, None),
        (["trainer=ddp"], {"gpus": 8}, None),
        (["trainer.devices=2"], {}, None),
        (["trainer.accelerator=cpu"], {}, None),
    ],
)
def test_runs_on_gpus_need_jobs_with_gpus(make_run, trainer, settings, problem):
    runs = [make_run("method=full"), make_run("method=full", *trainer)]
    said = too_few_gpus(runs, Slurm(**settings))
    assert re.search(problem, said) if problem else said is None


def test_a_machine_without_slurm_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs sbatch and srun and squeue and scontrol" in slurm.missing_requirement()


def test_the_queue_is_asked_until_nobody_is_there(cluster, tmp_path, monkeypatch, caplog):
    """It may be silent for a while, and a job that is requeued may be missing once."""
    answers = ["7_0 RUNNING None\n7_1 PENDING PartitionTimeLimit", "", "7_0 RUNNING None", "", ""]
    for number, text in enumerate(answers):
        (tmp_path / f"answer{number}").write_text(text)
    asked = tmp_path / "asked"
    asked.touch()
    cluster(
        "squeue",
        f'#!/bin/bash\nn=$(wc -l <{asked}); echo >>{asked}\n[ "$n" != 1 ] || exit 1\n'
        f"cat {tmp_path}/answer$n\n",
    )
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with caplog.at_level("INFO"):
        told = []
        wait_for_jobs(
            {"a": "7_0", "b": "7_1"}, 1, lambda: told.append(len(asked.read_text().splitlines()))
        )
    assert told == [4, 5]
    assert len(asked.read_text().splitlines()) == 5
    assert "jobs: 1 pending (PartitionTimeLimit), 1 running" in caplog.text
    assert "does not answer" in caplog.text
    ended = re.findall(r"job (\S+) ended", caplog.text)
    assert ended == ["7_1", "7_0"]


def test_elements_of_an_array_are_told_apart(cluster):
    cluster("squeue", "#!/bin/bash\necho '7_0 RUNNING None'\necho '8 PENDING Dependency'\n")
    assert queued_jobs() == {"7_0": "running", "8": "pending (Dependency)"}
