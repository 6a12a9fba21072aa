"""What is submitted, in which order, and what is not submitted twice."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alps.execute import execute
from alps.launch.ranks import fit_on_devices
from alps.launch.slurm.cluster import (
    QueueUnavailable,
    known_jobs,
    missing_requirement,
    submission_environment,
)
from alps.launch.slurm.job_states import last_entries
from alps.launch.slurm.script import array_script
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import Array, Entry, new_submission, read_attempts
from alps.launch.slurm.submit import missing_entries, submit, too_few_gpus

SMALL = ("model=tiny", "evals=none", "data.max_examples=24")


def script_of(slurm: Slurm, folder: Path, num: int, nodes: int = 1, after=()) -> str:
    entries = [Entry(key=f"k{i}", kind="train", settings={}) for i in range(num)]
    submission = replace(new_submission(folder, slurm, entries), folder=folder, id="1d")
    return array_script(submission, Array(first=0, count=num, after=after), nodes)


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line]


def test_what_is_left_out_is_not_asked_for(tmp_path):
    slurm = Slurm(
        account="lab", mem="8G", setup=("module load cuda",), additional={"mail-type": "END"}
    )
    text = script_of(slurm, tmp_path, 2, after=["afterok:7_1"])
    asked = options(text)
    assert {"--account=lab", "--mem=8G", "--mail-type=END", "--requeue"} <= set(asked)
    assert {"--array=0-1%256", "--dependency=afterok:7_1", "--kill-on-invalid-dep=yes"} <= set(
        asked
    )
    assert not any(o.startswith(("--partition", "--gpus", "--qos")) for o in asked)
    assert text.index("module load cuda") < text.index("exec srun")
    assert f'-m alps.launch.slurm.job {tmp_path} 1d 0 "$SLURM_ARRAY_TASK_ID"' in text


def test_a_folder_with_blanks_and_percents_is_one_argument(tmp_path):
    folder = tmp_path / "my outputs" / "100%"
    text = script_of(Slurm(), folder, 1)
    assert f'--output="{str(folder).replace("%", "%%")}/jobs-0_%a.log"' in options(text)
    assert f"'{folder}'" in text


def test_several_nodes_are_one_task_each(tmp_path):
    asked = options(script_of(Slurm(gpus=8), tmp_path, 1, nodes=2))
    assert {"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8"} <= set(asked)


def test_who_needs_a_task_model_waits_for_its_job(make_run, fake_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # as in a job of our own
    monkeypatch.setenv("SLURM_CONF", "/somewhere")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    alps, random, kl = (make_run(f"method={name}") for name in ("alps", "random", "kl"))
    full = make_run("method=full")
    entries = missing_entries([alps, random, kl])
    assert {e.key for e in entries} == {full.key, alps.key, random.key, kl.key}
    done = submit(entries, Slurm(parallel=2), tmp_path / "outputs")
    assert not done.refused
    first, second = fake_cluster.scripts()
    assert "--array=0-1%2" in options(first)
    assert not any(o.startswith("--dependency") for o in options(first))
    assert (done.jobs[full.key], done.jobs[random.key]) == ("7_0", "7_1"), "task models first"
    assert "--dependency=afterok:7_0" in options(second)
    assert {done.jobs[alps.key], done.jobs[kl.key]} == {"8_0", "8_1"}
    for script in (first, second):
        assert "# SLURM_CONF=/somewhere" in script and "# SBATCH_ACCOUNT=lab" in script
        assert "SLURM_NTASKS" not in script
    assert os.environ["SLURM_NTASKS"] == "4"


def test_only_what_is_missing_is_submitted(make_run):
    full, alps = make_run("method=full"), make_run("method=alps")

    def missing(*runs):
        return [(e.key, e.needs, e.weights) for e in missing_entries(runs)]

    both = [(full.key, None, "qkv"), (alps.key, full.key, "drop")]
    assert missing(alps) == missing(alps, full) == both
    execute(full, fit_on_devices)
    assert missing(alps, full) == [(alps.key, None, "drop")]
    execute(alps, fit_on_devices)
    assert missing(alps, full) == []
    listed = missing_entries([alps, full], finished=True)
    assert {e.key for e in listed} == {full.key, alps.key}


def test_what_is_in_the_queue_is_not_submitted_again(make_run, fake_cluster, tmp_path):
    entries = missing_entries([make_run("method=alps")])
    first = submit(entries, Slurm(), tmp_path / "outputs")
    again = submit(entries, Slurm(), tmp_path / "outputs")
    assert again.queued == first.jobs and not again.jobs and again.folder is None
    other = make_run("method=kl")
    third = submit(missing_entries([other]), Slurm(), tmp_path / "outputs")
    assert set(third.jobs) == {other.key}, "the task model in the queue serves it, too"
    assert "--dependency=afterok:7_0" in options(fake_cluster.scripts()[-1])


def test_a_lost_job_is_submitted_again(make_run, fake_cluster, tmp_path):
    run = make_run("method=full")
    submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    fake_cluster.ends("7_0", "NODE_FAIL")
    again = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert again.jobs == {run.key: "8_0"}
    attempts = read_attempts(tmp_path / "outputs")[run.key]
    assert [attempt.job for attempt in attempts] == ["7_0", "8_0"]


def test_a_job_that_is_being_requeued_is_not_lost(make_run, fake_cluster, tmp_path):
    """For a moment squeue does not list it, while the controller still knows it."""
    run = make_run("method=full")
    submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    fake_cluster.ends("7_0", "PENDING")
    again = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert again.queued == {run.key: "7_0"} and not again.jobs


def test_more_benchmarks_of_a_queued_run_come_after_it(make_run, fake_cluster, tmp_path):
    run, asked = make_run("method=full"), make_run("method=full", "evals=held_out")
    submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert run.key == asked.key
    done = submit(missing_entries([asked]), Slurm(), tmp_path / "outputs")
    assert done.jobs == {run.key: "8_0"}
    (dependency,) = [o for o in options(fake_cluster.scripts()[-1]) if "dependency" in o]
    assert dependency == "--dependency=afterany:7_0"
    assert not submit(missing_entries([run]), Slurm(), tmp_path / "outputs").jobs, "it does more"


def test_what_a_process_is_at_is_not_submitted(make_run, fake_cluster, tmp_path):
    from alps.runs.folder import RunFolder

    run = make_run("method=full")
    folder = RunFolder(run.folder)
    with folder.lock():
        folder.set_status("running")
        done = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert set(done.running) == {run.key} and not done.jobs and not fake_cluster.scripts()


def test_a_task_model_that_a_process_trains_has_a_job_for_who_needs_it(
    make_run, cli, fake_cluster, tmp_path
):
    """Else each of them would hold its node and wait for the lock."""
    from alps.runs.folder import RunFolder

    full, alps = make_run("method=full"), make_run("method=alps")
    folder = RunFolder(full.folder)
    with folder.lock():
        folder.set_status("running")
        out = cli("submit", *SMALL, "method=alps", check=0).stdout
    assert f"job 7_0 waits for {full.key}, which runs on " in out
    assert "--dependency=afterok:7_0" in options(fake_cluster.scripts()[-1])
    assert set(read_attempts(tmp_path / "outputs")) == {full.key, alps.key}


def test_arrays_are_no_larger_than_the_cluster_allows(make_run, fake_cluster, tmp_path):
    fake_cluster.flag("largest", "2")
    runs = [make_run("method=random", f"seed={seed}") for seed in range(5)]
    done = submit(missing_entries(runs), Slurm(), tmp_path / "outputs")
    assert sorted(done.jobs.values()) == ["7_0", "7_1", "8_0", "8_1", "9_0"]
    for index, script in enumerate(fake_cluster.scripts()):
        assert f" {2 * index} " in script.splitlines()[-1]
    attempts = read_attempts(tmp_path / "outputs")
    assert {key: a.job for key, (a,) in attempts.items()} == done.jobs


def test_a_job_that_a_killed_command_submitted_is_found(make_run, fake_cluster, tmp_path):
    """The command is killed after sbatch took the job, before it writes the job's id."""
    fake_cluster.flag("killed")
    command = [sys.executable, "-m", "alps.cli", "submit", *SMALL, "method=full"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ((attempt,),) = read_attempts(tmp_path / "outputs").values()
    assert attempt.job is None and fake_cluster.jobs() == ["7_0"]
    (fake_cluster.state / "killed").unlink()
    again = submit(missing_entries([make_run("method=full")]), Slurm(), tmp_path / "outputs")
    assert list(again.queued.values()) == ["7_0"] and not again.jobs


def test_an_answer_of_sbatch_that_is_lost_is_no_refusal(make_run, fake_cluster, tmp_path):
    """It may have taken the jobs."""
    flag = fake_cluster.flag("unanswered")
    run = make_run("method=full")
    done = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert "got no response" in done.refused[run.key]
    flag.unlink()
    again = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert again.queued == {run.key: "7_0"} and not again.jobs


def test_a_greeting_of_the_cluster_is_no_job_id(make_run, fake_cluster, tmp_path):
    fake_cluster.flag("greeting")
    run = make_run("method=full")
    assert submit(missing_entries([run]), Slurm(), tmp_path / "outputs").jobs == {run.key: "7_0"}


def test_a_job_of_another_cluster_with_the_same_id_is_not_ours(make_run, fake_cluster, tmp_path):
    run = make_run("method=full")
    submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    queue = fake_cluster.state / "queue"
    queue.write_text("7_0|RUNNING|one|None|/home/me/other.sh\n")
    again = submit(missing_entries([run]), Slurm(), tmp_path / "outputs")
    assert again.jobs == {run.key: "8_0"} and not again.queued


def test_a_part_of_an_array_that_is_forgotten_is_gone(make_run, fake_cluster, tmp_path):
    """While another part of the same array runs, SLURM answers for the array."""
    runs = [make_run("method=random", f"seed={seed}") for seed in range(2)]
    submit(missing_entries(runs), Slurm(), tmp_path / "outputs")
    fake_cluster.ends("7_0")
    again = submit(missing_entries(runs), Slurm(), tmp_path / "outputs")
    assert set(again.jobs) == {runs[0].key} and set(again.queued) == {runs[1].key}


def test_several_benchmark_sets_of_a_run_are_one_job(make_run, cli, fake_cluster, tmp_path):
    cli(
        "submit",
        "model=tiny",
        "data.max_examples=24",
        "method=full",
        "evals=none,mini",
        check=0,
    )
    (entry,) = last_entries(read_attempts(tmp_path / "outputs")).values()
    assert [b.name for b in entry.run.evals.benchmarks]
    small = ("model=tiny", "data.max_examples=24", "method=random", "evals=mini")
    done = cli("submit", *small, "evals.limit=2,4", check=2)
    assert "in two ways" in done.stderr


def test_variables_of_sbatch_do_not_replace_the_script(
    make_run, fake_cluster, tmp_path, monkeypatch
):
    for name in (
        "SBATCH_TIMELIMIT",
        "SBATCH_ARRAY_INX",
        "SBATCH_DEPENDENCY",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.setenv(name, "0-5")
    monkeypatch.setenv("SLURM_JOB_ID", "3")  # as in a job of our own
    env = submission_environment(os.environ)
    assert not {"SBATCH_TIMELIMIT", "SBATCH_ARRAY_INX", "SBATCH_DEPENDENCY"} & set(env)
    assert "CUDA_VISIBLE_DEVICES" not in env and "SLURM_JOB_ID" not in env
    assert submission_environment({"SLURM_JWT": "x", "CUDA_VISIBLE_DEVICES": "0"}) == {
        "SLURM_JWT": "x", "CUDA_VISIBLE_DEVICES": "0",
    }  # fmt: skip


def test_a_damaged_submission_is_named(cli, make_run, fake_cluster, tmp_path):
    submit(missing_entries([make_run("method=full")]), Slurm(), tmp_path / "outputs")
    path = tmp_path / "outputs" / "jobs" / "0001" / "submission.json"
    path.write_text("")
    for command in ("status", "cancel", "retry"):
        done = cli(command, check=2)
        assert "0001/submission.json cannot be read" in done.stderr, command
    assert "0001/submission.json" in cli("submit", *SMALL, "method=full", check=1).stderr
    assert len(fake_cluster.scripts()) == 1


def test_a_silent_queue_submits_nothing(make_run, fake_cluster, tmp_path):
    fake_cluster.flag("silent")
    with pytest.raises(QueueUnavailable, match="Unable to contact slurm controller"):
        submit(missing_entries([make_run("method=full")]), Slurm(), tmp_path / "outputs")
    assert not fake_cluster.scripts() and not list(tmp_path.glob("outputs/jobs/*/*"))


def test_a_refused_task_model_refuses_who_needs_it(make_run, fake_cluster, tmp_path):
    fake_cluster.flag("refused", "Job violates accounting/QOS policy (job submit limit)")
    alps = make_run("method=alps")
    done = submit(missing_entries([alps]), Slurm(), tmp_path / "outputs")
    assert "submit limit" in done.refused[make_run("method=full").key]
    assert "was not submitted" in done.refused[alps.key] and not done.jobs
    (fake_cluster.state / "refused").unlink()
    assert len(submit(missing_entries([alps]), Slurm(), tmp_path / "outputs").jobs) == 2


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


def test_a_machine_without_slurm_is_told_so(without_slurm):
    assert "sbatch, srun, squeue, scontrol, scancel not found" in (missing_requirement() or "")


def test_elements_of_an_array_are_told_apart(fake_cluster):
    fake_cluster.command(
        "squeue",
        "#!/bin/bash\necho '7_0|RUNNING|one|None|/a b.sh'; echo 'y'; echo '8|PENDING||None|x'\n",
    )
    job, other = known_jobs().values()  # the second line is the rest of somebody's command
    assert other.id == "8"
    assert (job.id, job.state, job.nodes, job.script) == ("7_0", "RUNNING", "one", "/a b.sh")


def test_the_dry_run_of_a_table_needs_no_slurm(alps, without_slurm, tmp_path):
    table = ("experiment=table3", "scale=mini", "model=tiny", "data=mini_math")
    done = alps("submit", "--dry-run", *table, check=0)
    scripts = done.stdout.split("#!/bin/bash\n")[1:]
    dependent = [s for s in scripts if "#SBATCH --dependency=afterok:<job-1>_" in s]
    assert len(scripts) > len(dependent) >= 1
    assert not list(tmp_path.glob("outputs/*")), "nothing is written"
    failed = alps("submit", *table, check=2)
    assert "--dry-run" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to submit"),
        (["method=full", "hydra.launcher.time=soon"], "hydra.launcher.time=soon"),
        (["method=full", "hydra.launcher.queue=x"], "hydra.launcher.queue is not a setting"),
        (["method=full", "hydra.sweep.dir=x"], "only hydra.launcher"),
        (["method=full", "hydra/launcher=local"], "hydra/launcher has to be slurm"),
        (["method=full", "--what"], "'--what' is not understood"),
        (["method=fulx"], "fulx"),
        (["method=full", "+hydra.launcher.additional.array=0-9"], "additional.array"),
        (["method=full", "hydra.launcher.gpus=-1"], "gpus must be at least 0"),
        (["method=full", "weights=drop,keep"], "weights"),
        (["method=full,random", "output_dir=a,b"], "output_dir is one folder"),
        (["experiment=table1", "trainer=ddp", "scale=mini"], "set hydra.launcher.gpus=8"),
    ],
)
def test_what_is_refused_before_anything_is_submitted(
    cli, fake_cluster, tmp_path, arguments, words
):
    done = cli("submit", *(SMALL if arguments else ()), *arguments, check=2)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not fake_cluster.scripts() and not list(tmp_path.glob("outputs/*"))


def test_a_sweep_is_submitted_and_the_next_commands_are_printed(cli, fake_cluster, tmp_path):
    done = cli("submit", *SMALL, "method=full,random", "hydra.launcher.partition=gpu", check=0)
    assert "job 7: 2 of 2 runs: full-" in done.stdout and "alps status" in done.stdout
    assert "--partition=gpu" in fake_cluster.scripts()[0]
    again = cli("submit", *SMALL, "method=full,random", check=0)
    assert "already queued: full-" in again.stdout
    assert "nothing to submit" in again.stdout and len(fake_cluster.scripts()) == 1


def test_a_refusal_is_one_sentence(cli, fake_cluster):
    fake_cluster.flag("refused", "invalid partition specified: gpus")
    done = cli("submit", *SMALL, "method=full", check=1)
    assert "sbatch rejected the jobs (invalid partition specified: gpus)" in done.stderr


def test_the_waiting_command_refuses_alike(alps, fake_cluster):
    fake_cluster.flag("refused", "invalid partition: gpus")
    settings = ("hydra.launcher.partition=gpus", "method=full,random", *SMALL)
    done = alps("train", "-m", "hydra/launcher=slurm", *settings, check=2)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: sbatch rejected the jobs (invalid partition: gpus)")
    assert "Traceback" not in done.stderr
    done = alps("train", "hydra/launcher=slurm", "method=full", *SMALL, check=2)
    assert "add -m" in done.stderr


def test_vanilla_rows_of_a_table_are_jobs_too(cli, fake_cluster, tmp_path):
    table = ("experiment=table5", "scale=mini", "model=tiny", "data=mini_general")
    cli("submit", *table, "evals.limit=2", check=0)
    entries = last_entries(read_attempts(tmp_path / "outputs"))
    assert {entry.kind for entry in entries.values()} == {"train", "evaluate"}
    bases = [key for key, entry in entries.items() if entry.kind == "evaluate"]
    assert all(key.startswith("base-") for key in bases)
    assert Path(tmp_path / "outputs" / "jobs").is_dir()
