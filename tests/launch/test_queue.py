"""Runs of a sweep at once, one a device; task models first; a failure stops nobody else."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import pytest

from alps.launch import queue
from alps.launch.queue import pending_entries, run_queue
from alps.runs.folder import RunFolder

PROCESS = """
import json, os, signal, sys, time
from pathlib import Path
def stop(*_):
    Path("stopped-" + str(os.getpid())).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
request = json.load(sys.stdin)
run = request["run"]
name = run["method"]["name"]
event = {"name": name, "devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "needs": request["needs"]}
event["threads"] = os.environ["OMP_NUM_THREADS"]
event["start"] = time.monotonic()
Path("started-" + name).touch()
while any(not Path("started-" + other).exists() for other in os.environ.get("MEETS", "").split()):
    time.sleep(0.01)
while Path("hold").exists() or name in os.environ.get("HOLDS", "").split():
    time.sleep(0.01)
event["end"] = time.monotonic()
Path(name + ".event").write_text(json.dumps(event))
if name in os.environ.get("FAILS", "").split():
    sys.exit(3)
if name in os.environ.get("DIES", "").split():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """A process that imports nothing stands in for a run's."""
    monkeypatch.setattr(queue, "_command", lambda: [sys.executable, "-S", "-c", PROCESS])
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def work(runs, parallel: int = 2) -> dict[str, str]:
    return dict(run_queue(pending_entries(runs), parallel, lambda: None))


def events() -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in Path().glob("*.event")]
    return {event["name"]: event for event in found}


def at_once(a: dict, b: dict) -> bool:
    return a["start"] < b["end"] and b["start"] < a["end"]


def test_two_runs_are_at_work_at_once(make_run, monkeypatch):
    """Each waits until the other has started: one after the other they would wait for ever."""
    monkeypatch.setenv("MEETS", "random full")
    runs = [make_run("method=random"), make_run("method=full")]
    assert work(runs) == {}
    assert at_once(*events().values())


def test_no_more_runs_than_devices_are_at_work(make_run):
    names = ("random", "full", "no_attn", "lora", "layer_consistent")
    assert work([make_run(f"method={name}") for name in names], 2) == {}
    assert set(events()) == set(names)
    assert not any(
        at_once(a, b) and at_once(b, c) and at_once(a, c)
        for a, b, c in combinations(events().values(), 3)
    )


def test_a_task_model_is_trained_first_and_its_runs_hold_no_device_meanwhile(make_run, monkeypatch):
    monkeypatch.setenv("MEETS", "full random")  # two devices: one would be held by a waiting run
    runs = [make_run(f"method={name}") for name in ("alps", "kl", "random")]
    assert work(runs) == {}
    found = events()
    assert set(found) == {"alps", "kl", "random", "full"}
    assert all(found[name]["start"] > found["full"]["end"] for name in ("alps", "kl"))
    assert {found[name]["needs"] for name in ("alps", "kl", "random")} == {"drop"}
    assert found["full"]["needs"] == "qkv"


def test_the_sweep_s_own_full_run_is_the_task_model(make_run):
    runs = [make_run("method=alps"), make_run("method=full", "evals=mini")]
    entries = pending_entries(runs)
    assert [(e.run, e.task_model) for e in entries] == [(runs[1], True), (runs[0], False)]
    assert entries[1].needs == [entries[0]]


def test_equal_runs_are_one_and_other_benchmarks_wait_for_the_first(make_run):
    first, other = make_run("method=full"), make_run("method=full", "evals=mini")
    entries = pending_entries([first, other, first])
    assert [e.run for e in entries] == [first, other] and entries[1].needs == [entries[0]]


def test_finished_runs_need_nobody(make_run, monkeypatch):
    run = make_run("method=full")
    monkeypatch.setattr(queue, "has_nothing_left", lambda each: each == run)
    assert pending_entries([run]) == []


def test_a_run_on_all_devices_waits_for_them_and_is_not_overtaken(make_run):
    small = [make_run(f"method={name}") for name in ("random", "no_attn", "lora")]
    large = [make_run("method=full", "trainer.devices=2")]
    assert work(small + large) == {}
    found = events()
    assert not any(at_once(found["full"], found[n]) for n in ("random", "no_attn", "lora"))
    assert found["full"]["start"] < min(found[n]["start"] for n in ("random", "no_attn", "lora"))


def test_more_devices_than_there_are_take_all(make_run):
    assert work([make_run("method=full", "trainer.devices=8"), make_run("method=random")]) == {}
    assert set(events()) == {"full", "random"}


def test_each_process_sees_its_own_gpus(make_run, monkeypatch):
    monkeypatch.setattr(queue, "num_gpus", lambda trainer: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7f,6")
    runs = [make_run(f"method={n}", "trainer.devices=1") for n in ("random", "no_attn", "lora")]
    large = make_run("method=full", "trainer.devices=3")
    two = make_run("method=layer_consistent", "trainer.devices=2")
    assert work([*runs, large, two], 3) == {}
    found = {name: event["devices"] for name, event in events().items()}
    assert found["full"] == "4,GPU-7f,6" and found["layer_consistent"] == "4,GPU-7f"
    assert {found[n] for n in ("random", "no_attn", "lora")} <= {"4", "GPU-7f", "6"}
    assert found["random"] == "6"  # beside the two of layer_consistent


def test_cores_are_shared(make_run, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert work([make_run("method=random"), make_run("method=full", "trainer.devices=4")], 2) == {}
    assert {n: e["threads"] for n, e in events().items()} == {"random": "6", "full": "3"}


def test_a_failure_leaves_the_others_going(make_run, monkeypatch, capsys):
    monkeypatch.setenv("FAILS", "random")
    monkeypatch.setenv("DIES", "full")
    runs = [make_run(f"method={name}") for name in ("random", "full", "no_attn")]
    failures = work(runs)
    assert set(failures) == {runs[0].key, runs[1].key} and "no_attn" in events()
    assert failures[runs[0].key].startswith("its process ended with code 3; see ")
    assert failures[runs[1].key] == "its process was killed (SIGKILL)"
    assert f"error: {runs[1].key}: its process was killed (SIGKILL)\n" in capsys.readouterr().err


def test_the_first_failure_may_end_the_sweep(make_run, monkeypatch):
    """What runs is asked to stop, what waits is not started."""
    monkeypatch.setenv("MEETS", "full random")
    monkeypatch.setenv("HOLDS", "random")
    monkeypatch.setenv("FAILS", "full")
    runs = [make_run(f"method={name}") for name in ("full", "random", "no_attn")]
    failures = dict(run_queue(pending_entries(runs), 2, lambda: None, fail_fast=True))
    assert set(failures) == {run.key for run in runs}
    assert f"not started, as {runs[0].key} failed (fail_fast=true)" in failures[runs[2].key]
    assert len(list(Path().glob("stopped-*"))) == 1 and not Path("started-no_attn").exists()


def test_one_run_after_the_other_ends_at_the_first_failure_too(alps, tmp_path):
    points = ("method=full,random,no_attn", "optim.lr=1e30", "optim.clip_norm=null")
    small = ("model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off")
    done = alps("train", "-m", *small, *points, "fail_fast=true", check=1)
    assert done.stderr.count("the loss became nan") == 1
    assert done.stderr.count("not started, as full-") == 2
    assert len(list(tmp_path.glob("outputs/runs/*/run.yaml"))) == 1
    assert "Traceback" not in done.stderr


def test_a_failed_task_model_fails_its_runs_without_starting_them(make_run, monkeypatch):
    monkeypatch.setenv("FAILS", "full")
    run = make_run("method=alps")
    task = run.task_run()
    failures = work([run, make_run("method=random")])
    assert set(events()) == {"full", "random"}
    assert failures[run.key] == f"its task model {task.key} failed: {failures[task.key]}"
    status = RunFolder(run.folder).status()
    assert (status["state"], status["reason"]) == ("failed", failures[run.key])


def test_what_failed_says_its_own_reason(make_run, monkeypatch):
    run = make_run("method=full")
    code = (
        "import json, os, sys; from pathlib import Path\n"
        "state = {'state': 'failed', 'reason': 'the loss became nan', 'pid': os.getpid()}\n"
        f"Path({str(run.folder)!r}, 'status.json').write_text(json.dumps(state)); sys.exit(1)"
    )
    monkeypatch.setattr(queue, "_command", lambda: [sys.executable, "-S", "-c", code])
    assert work([run, make_run("method=random")])[run.key] == "the loss became nan"


def in_a_process(make_run, folder: Path) -> subprocess.Popen:
    """A process of two held runs and one that waits."""
    (folder / "hold").touch()
    names = ("random", "full", "no_attn")
    runs = [make_run(f"method={name}") for name in names]
    requests = folder / "runs.json"
    from alps.base.serialization import to_dict

    requests.write_text(json.dumps([to_dict(run) for run in runs]))
    code = f"""
import json, sys
from alps.base.serialization import from_dict
from alps.launch import queue
from alps.settings.run import Run
runs = [from_dict(run, Run) for run in json.load(open({str(requests)!r}))]
queue._command = lambda: [sys.executable, "-S", "-c", {PROCESS!r}]
queue.run_queue(queue.pending_entries(runs), 2, lambda: None)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: all((folder / f"started-{name}").exists() for name in names[:2]))
    return process


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs_and_starts_no_other(make_run, tmp_path, number):
    process = in_a_process(make_run, tmp_path)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in ({128 + number} | ({-number, 1} if number == 2 else set()))
    assert len(list(tmp_path.glob("stopped-*"))) == 2
    assert not (tmp_path / "started-no_attn").exists()


def test_runs_end_with_a_killed_parent(make_run, tmp_path):
    process = in_a_process(make_run, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: len(list(tmp_path.glob("stopped-*"))) == 2)


MEET = """
import os, sys, time
from pathlib import Path
if "alps.launch.run_process" in sys.orig_argv:
    place = Path(os.environ["MEETING"])
    (place / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(place.iterdir())) < 2:
        if time.monotonic() > end:
            os._exit(9)
        time.sleep(0.02)
"""


def test_a_sweep_on_two_devices_of_a_cpu(alps, tmp_path):
    """Its processes meet: neither trains before the other is there."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(MEET)
    (tmp_path / "meeting").mkdir()
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    settings = ("model=tiny", "evals=none", "data.max_examples=16", "trainer.progress=lines")
    done = alps(
        "train", "-m", *settings, "method=random", "optim.lr=0.01,1e30",
        "optim.clip_norm=null", "trainer.accelerator=cpu", "trainer.parallel=2", check=1,
        env={**os.environ, "PYTHONPATH": path, "MEETING": str(tmp_path / "meeting")},
    )  # fmt: skip
    runs = {path.name: RunFolder(path) for path in (tmp_path / "outputs" / "runs").iterdir()}
    states = sorted(folder.status()["state"] for folder in runs.values())
    assert states == ["failed", "finished"]
    for key, folder in runs.items():
        log = (folder.path / "train.log").read_text()
        assert "step 1/" in log and f"{key}: started on device" in done.stderr + done.stdout
        failed = folder.status()["state"] == "failed"
        assert (f"error: {key}: {folder.status()['reason']}\n" in done.stderr) == failed
        assert ("the run failed" in log) == failed
    assert all(key in done.stdout for key in runs) and "table: " in done.stdout
