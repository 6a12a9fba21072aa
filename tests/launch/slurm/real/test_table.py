"""Real jobs on a real cluster: `make test-slurm`, or `pytest -m slurm` where there is one."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off")
QUEUE = ("hydra/launcher=slurm", "hydra.launcher.cpus=1", "hydra.launcher.poll_seconds=1")
# No checkpoint but the one that a signal asks for.
LONG = ("method=full", "optim.epochs=40", "trainer.checkpoint_every_n_steps=1000")


@pytest.fixture(autouse=True)
def cluster() -> None:
    try:
        subprocess.run(["sinfo"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no SLURM cluster answers")


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    """The waiting command, in the background."""
    command = [sys.executable, "-m", "alps.cli.__main__", "train", "-m", *QUEUE, *SMALL, *settings]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[str], code: int) -> str:
    out, errors = process.communicate(timeout=200)
    assert process.returncode == code, errors + out
    assert "Traceback" not in errors, errors
    return out + errors


def until_it_trains(folder: Path) -> Path:
    """Returns the run's folder once some steps are done."""
    deadline = time.monotonic() + 120
    while True:
        for run in folder.glob("outputs/runs/*"):
            if (run / "metrics.csv").exists() and len(steps(run)) >= 5:
                return run
        assert time.monotonic() < deadline, "nothing trains after two minutes"
        time.sleep(0.05)


def steps(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def jobs_of(folder: Path) -> list[str]:
    """Jobs that sweeps in this folder submitted, by the name of their pickles."""
    return sorted(
        p.name.removesuffix("_submitted.pkl")
        for p in folder.glob("outputs/sweeps/*/jobs/*_submitted.pkl")
    )


def signalled(number: str, job: str, *options: str) -> None:
    subprocess.run(["scancel", *options, f"--signal={number}", job], check=True)


def test_a_table_with_failing_points_is_finished_but_for_them(tmp_path):
    points = ("method=alps,random", "optim.lr=2e-5,1e30", "optim.clip_norm=null")
    out = ended(start(tmp_path, *points), 1)
    told = [line for line in out.splitlines() if line.startswith("error:")]
    assert len(told) == 2 and all("the loss became nan" in line for line in told), out
    assert "pending (Dependency)" in out
    assert len(jobs_of(tmp_path)) == 6  # four points and two task models
    states = {p.parent.name: json.loads(p.read_text())["state"] for p in status_files(tmp_path)}
    assert sorted(states.values()) == ["failed"] * 3 + ["finished"] * 3, states
    (table,) = tmp_path.glob("outputs/sweeps/*/table.md")
    assert table.read_text().count("failed: ") == 2
    for run in tmp_path.glob("outputs/runs/alps-*"):
        assert (run / "train.log").stat().st_size > 0
    assert "needs the task model" in out or any(
        "needs the task model" in log.read_text() for log in tmp_path.glob("outputs/runs/*/*.log")
    )
    ended(start(tmp_path, *points), 1)
    assert len(jobs_of(tmp_path)) == 6 + 3  # the two that failed, and their task model


def status_files(folder: Path) -> list[Path]:
    return list(folder.glob("outputs/runs/*/status.json"))


def test_a_cancelled_job_is_told_and_the_same_command_goes_on(tmp_path):
    process = start(tmp_path, *LONG)
    run = until_it_trains(tmp_path)
    first = steps(run)[0]
    (job,) = jobs_of(tmp_path)
    subprocess.run(["scancel", job], check=True)
    out = ended(process, 1)
    assert f"SLURM job {job} ended CANCELLED; the same command goes on" in out, out
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    ended(start(tmp_path, *LONG), 0)
    assert [int(s["step"]) for s in steps(run)] == list(range(1, 121))
    assert steps(run)[0] == first, "it began again"
    assert json.loads((run / "result.json").read_text())["num_steps"] == 120


@pytest.mark.parametrize("devices", [1, 2])
def test_a_job_whose_time_is_up_goes_on_in_the_queue(tmp_path, devices):
    """SLURM's warning reaches every process of a job, the ranks too."""
    process = start(tmp_path, *LONG, f"trainer.devices={devices}", "hydra.launcher.cpus=2")
    run = until_it_trains(tmp_path)
    first = steps(run)[0]
    (job,) = jobs_of(tmp_path)
    signalled("USR2", job)
    ended(process, 0)
    assert restarts(job) == 1
    result = json.loads((run / "result.json").read_text())
    assert (result["num_steps"], result["devices"]) == (120, devices)
    assert [int(s["step"]) for s in steps(run)] == list(range(1, 121))
    assert steps(run)[0] == first, "it began again"


def test_time_that_is_up_too_often_is_a_failure(tmp_path):
    limit = ("hydra.launcher.time=3", "hydra.launcher.signal_seconds=30")
    process = start(tmp_path, *LONG, *limit, "hydra.launcher.max_timeouts=0")
    run = until_it_trains(tmp_path)
    (job,) = jobs_of(tmp_path)
    signalled("USR2", job)
    assert "hydra.launcher.max_timeouts" in ended(process, 1)
    assert json.loads((run / "status.json").read_text())["state"] == "failed"


def test_the_script_of_one_run_goes_on_when_its_time_is_up(tmp_path):
    """SIGTERM to the batch script is what `--signal=B:TERM` sends before the time limit."""
    command = ["sbatch", "--parsable", "--cpus-per-task=1", str(ROOT / "slurm" / "train.sbatch")]
    environment = {**os.environ, "ALPS_PYTHON": sys.executable}
    submitted = subprocess.run(
        [*command, *SMALL, *LONG],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    run = until_it_trains(tmp_path)
    first = steps(run)[0]
    signalled("TERM", job, "--batch")
    deadline = time.monotonic() + 200
    while not (run / "result.json").exists():
        assert time.monotonic() < deadline, (tmp_path / f"slurm-{job}.out").read_text()
        time.sleep(0.2)
    assert restarts(job) == 1
    assert [int(s["step"]) for s in steps(run)] == list(range(1, 121))
    assert steps(run)[0] == first, "it began again"


def restarts(job: str) -> int:
    shown = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, check=True
    )
    return int(shown.stdout.split("Restarts=")[1].split()[0])
