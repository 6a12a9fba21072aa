"""One job: signalled before its limit, requeued, and what it leaves when it fails."""

import json
import os
import signal
import time

import pytest

from alps.execute import execute
from alps.launch.slurm import job as job_module
from alps.launch.slurm.job import TimeIsUp, main
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import Attempt, read_attempts
from alps.launch.slurm.submit import missing_entries, submit
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.training.fit import fit

NAN = ("optim.lr=1e30", "optim.clip_norm=null")


@pytest.fixture
def handlers():
    """Handlers that a test may change."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def arguments_of(attempt: Attempt) -> list[str]:
    """Of its job, as srun starts it."""
    first = attempt.script.stem.partition("-")[2]
    return [str(attempt.submission.folder), attempt.submission.id, first, str(attempt.index)]


@pytest.fixture
def submitted(make_run, fake_cluster, tmp_path, monkeypatch, handlers):
    """Submits a run and returns the arguments of its job, as srun starts it."""

    def make(*overrides: str, slurm: Slurm | None = None, **settings):
        run = make_run(*overrides)
        submit(missing_entries([run]), slurm or Slurm(cpus=1), tmp_path / "outputs", **settings)
        attempt = read_attempts(tmp_path / "outputs")[run.key][-1]
        assert attempt.job is not None
        array, _, index = attempt.job.partition("_")
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
        return run, arguments_of(attempt)

    monkeypatch.setattr(job_module, "REQUEUE_SECONDS", 0)
    return make


def test_what_does_not_listen_is_interrupted(handlers):
    work = TimeIsUp(60)
    with pytest.raises(SystemExit) as stopped, work.watched():
        signal.raise_signal(signal.SIGUSR2)
    assert work.arrived and stopped.value.code == 128 + signal.SIGUSR2


def test_a_training_that_listens_is_asked_and_has_its_time(handlers):
    work, asked = TimeIsUp(1), []
    began = time.monotonic()
    with pytest.raises(SystemExit), work.watched():
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        signal.raise_signal(signal.SIGUSR2)
        while time.monotonic() - began < 30:  # it does not stop by itself
            time.sleep(0.01)
    assert asked == [signal.SIGTERM] and time.monotonic() - began > 0.6


def test_a_job_trains_its_run(submitted):
    run, arguments = submitted("method=random")
    assert main(arguments) == 0
    assert Result.read(RunFolder(run.folder).result_path).num_steps == 3
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN, "what is left is short"
    assert (run.folder / "train.log").exists()


def test_a_failure_is_in_the_log_of_the_run(submitted, capsys):
    run, arguments = submitted("method=full", *NAN)
    assert main(arguments) == 1
    assert "Traceback" in (run.folder / "train.log").read_text()
    assert f"error: {run.key}: the loss became nan" in capsys.readouterr().err


def test_the_signal_before_the_limit_requeues_the_job(
    submitted, fake_cluster, monkeypatch, tmp_path
):
    run, arguments = submitted("method=full", slurm=Slurm(cpus=1, max_timeouts=1))

    def interrupted(*_):
        signal.raise_signal(signal.SIGUSR2)

    monkeypatch.setattr(job_module, "_work", interrupted)
    controlled = fake_cluster.state / "controlled"
    assert main(arguments) == 128 + signal.SIGUSR2
    assert controlled.read_text() == "requeue 7_0\n"
    assert main(arguments) == 1, "its time was up once too often"
    assert controlled.read_text() == "requeue 7_0\n"
    attempt = read_attempts(tmp_path / "outputs")[run.key][-1]
    assert "max_timeouts=1" in attempt.failed_path.read_text()


def test_a_cancelled_job_is_not_requeued(submitted, fake_cluster, monkeypatch, tmp_path):
    """Its time may be up while it is being cancelled."""
    run, arguments = submitted("method=full")
    read_attempts(tmp_path / "outputs")[run.key][-1].cancelled_path.write_text("cancelled")
    monkeypatch.setattr(job_module, "_work", lambda *_: signal.raise_signal(signal.SIGUSR2))
    assert main(arguments) == 128 + signal.SIGUSR2
    assert not (fake_cluster.state / "controlled").read_text()


def test_a_folder_with_another_submission_is_left_alone(submitted, tmp_path, capsys):
    run, arguments = submitted("method=full")
    assert main([arguments[0], "another", *arguments[2:]]) == 1
    assert "now belongs to another submission" in capsys.readouterr().err
    assert not run.folder.exists()


def test_a_damaged_file_of_another_run_does_not_fail_a_finished_one(
    submitted, make_run, fake_cluster, tmp_path
):
    other = make_run("method=random")
    submit(missing_entries([other]), Slurm(cpus=1), tmp_path / "outputs")
    other.folder.mkdir(parents=True)
    (other.folder / "training.json").write_text("{")
    (other.folder / "result.json").write_text("{")
    run, arguments = submitted("method=full", weights="drop")
    assert main(arguments) == 0
    assert RunFolder(run.folder).result_path.exists()


def test_sigterm_is_no_reason_to_requeue(submitted, fake_cluster, monkeypatch):
    """SLURM requeues by itself what it preempts, and not what a user cancels."""
    _, arguments = submitted("method=full")

    def terminated(*_):
        raise SystemExit(128 + signal.SIGTERM)

    monkeypatch.setattr(job_module, "_work", terminated)
    with pytest.raises(SystemExit):
        main(arguments)
    assert not (fake_cluster.state / "controlled").read_text()


def test_a_job_in_the_grace_time_of_a_preemption_requeues_itself(
    submitted, fake_cluster, monkeypatch
):
    """Outside of a training, too: as SIGTERM arrives there."""
    _, arguments = submitted("method=full")
    fake_cluster.ends("7_0", "RUNNING PreemptTime=2026-11-30T09:41:28")
    monkeypatch.setattr(job_module, "_work", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        main(arguments)
    assert (fake_cluster.state / "controlled").read_text() == "requeue 7_0\n"


def test_settings_that_mean_another_run_by_now_are_refused(submitted, tmp_path, capsys):
    run, arguments = submitted("method=full")
    path = tmp_path / "outputs" / "jobs" / arguments[0] / "submission.json"
    plain = json.loads(path.read_text())
    plain["entries"][0]["settings"]["seed"] = 5
    path.write_text(json.dumps(plain))
    assert main(arguments) == 1
    assert f"submitted as {run.key}, but these settings now give full-" in capsys.readouterr().err
    assert not list((tmp_path / "outputs" / "runs").glob("*/training.json"))


def test_the_first_failure_cancels_the_other_jobs(submitted, fake_cluster, make_run, tmp_path):
    runs = [make_run("method=random", f"seed={seed}", *NAN) for seed in range(3)]
    submit(missing_entries(runs), Slurm(cpus=1), tmp_path / "outputs", fail_fast=True)
    attempts = read_attempts(tmp_path / "outputs")
    submitted("method=random", "seed=9")  # of another command
    (failing,) = attempts[runs[1].key]
    os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"] = "7", "1"
    assert main(arguments_of(failing)) == 1
    assert fake_cluster.jobs() == [failing.job, "8_0"], "its own ends by itself"
    (other,) = attempts[runs[0].key]
    assert f"cancelled, as {runs[1].key} failed" in other.cancelled_path.read_text()
    assert main(arguments_of(other)) == 1 and not runs[0].folder.exists()


def test_a_lost_job_is_a_failure_that_the_next_one_notices(
    submitted, fake_cluster, make_run, tmp_path
):
    """Nothing of ours runs when memory runs out or a node dies."""
    runs = [make_run("method=random", f"seed={seed}") for seed in range(3)]
    submit(missing_entries(runs), Slurm(cpus=1), tmp_path / "outputs", fail_fast=True)
    submitted("method=random", "seed=9")  # of another command
    (lost,), (starting,), (other,) = (read_attempts(tmp_path / "outputs")[r.key] for r in runs)
    fake_cluster.ends(lost.job, "OUT_OF_MEMORY")
    assert main(arguments_of(starting)) == 1 and not runs[1].folder.exists()
    assert fake_cluster.jobs() == ["8_0"]
    for attempt in (starting, other):
        assert f"cancelled, as {runs[0].key} failed" in attempt.cancelled_path.read_text()


@pytest.mark.parametrize(("state", "left"), [("NODE_FAIL", []), ("COMPLETED", ["7_1", "7_2"])])
def test_a_lost_job_is_noticed_by_one_that_ends(
    submitted, fake_cluster, make_run, tmp_path, monkeypatch, state, left
):
    """One that has completed is not lost, though its files may not be visible here yet."""
    runs = [make_run("method=random", f"seed={seed}") for seed in range(3)]
    submit(missing_entries(runs), Slurm(cpus=1), tmp_path / "outputs", fail_fast=True)
    (ending,) = read_attempts(tmp_path / "outputs")[runs[1].key]
    monkeypatch.setattr(job_module, "_work", lambda *_: fake_cluster.ends("7_0", state))
    assert main(arguments_of(ending)) == 0
    assert fake_cluster.jobs() == left


def test_the_retention_policy_is_applied_when_a_job_ends(submitted, make_run, tmp_path):
    run, arguments = submitted("method=random", weights="drop")
    assert main(arguments) == 0
    assert RunFolder(run.folder).stored_weights == "drop"
    assert RunFolder(run.folder).result_path.exists()


def test_task_models_that_other_commands_need_keep_their_weights(
    submitted, make_run, fake_cluster, tmp_path
):
    full, arguments = submitted("method=full", weights="drop")
    submit(missing_entries([make_run("method=alps")]), Slurm(cpus=1), tmp_path / "outputs")
    assert main(arguments) == 0
    assert RunFolder(full.folder).has_weights("qkv"), "alps waits for them in the queue"
    execute(make_run("method=alps"), fit)
    assert main(arguments) == 0
    assert RunFolder(full.folder).stored_weights == "drop"


def test_a_base_model_is_evaluated_by_a_job(make_run, fake_cluster, tmp_path, handlers):
    from alps.runs.completion import base_is_finished

    run = make_run("method=full", "evals=held_out")
    entries = missing_entries([], [run])
    submit(entries, Slurm(cpus=1), tmp_path / "outputs")
    (attempt,) = read_attempts(tmp_path / "outputs")[run.base_data_key]
    assert main(arguments_of(attempt)) == 0
    assert base_is_finished(run) and missing_entries([], [run]) == []
