"""Loggers for real, W&B offline; and a training that doesn't care when one breaks or hangs."""

import json
import time
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from alps.execute import execute
from alps.launch.ranks import fit_on_devices
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.runs.result import RunFailed
from alps.tracking import background, loggers
from alps.tracking.sent import read_sent
from alps.training.fit import fit
from alps.training.step_callback import StepCallback

wandb = pytest.importorskip("wandb")


KEY = "0123456789" * 4
HOST = "wandb.example.org"


@pytest.fixture(autouse=True)
def no_account(wandb_offline):
    """No credentials, no settings."""


def modes_of_init(run, monkeypatch) -> set[str]:
    """What W&B is asked for, which would then go online."""
    asked = []

    def init(**settings):
        asked.append(settings["mode"])
        raise wandb.errors.UsageError("no network in tests")

    monkeypatch.setattr(wandb, "init", init)
    execute(run, fit)
    assert len(asked) == 2, "by the training, and for the result"
    return {mode or wandb.setup().settings.mode for mode in asked}


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize(("mode", "recorded"), [("offline", 2), ("disabled", 0)])
def test_wandb_mode_wins(make_run, monkeypatch, mode, recorded, key):
    monkeypatch.setenv("WANDB_MODE", mode)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    run = make_run("method=full", "logger=wandb", "optim.max_steps=1")
    execute(run, fit)
    outputs = run.folder.parents[1]
    assert len(list(outputs.rglob("*.wandb"))) == recorded
    assert recorded or not list(outputs.rglob("wandb"))


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "online"}, "offline"),
        ({"NETRC": "own"}, "offline"),
        ({"NETRC": "own", "WANDB_BASE_URL": f"https://{HOST}"}, "online"),
        ({"NETRC": "default"}, "online"),
    ],
)
def test_wandb_is_asked_whether_there_is_a_key(make_run, monkeypatch, tmp_path, settings, mode):
    host = urlsplit(wandb.Settings().base_url).netloc
    for name, machine in (("own", HOST), ("default", host)):
        (tmp_path / name).write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
    for name, value in settings.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name == "NETRC" else value)
    wandb.teardown()
    run = make_run("method=full", "logger=wandb", "optim.max_steps=1")
    assert modes_of_init(run, monkeypatch) == {mode}


def test_a_training_is_recorded_offline_and_finished(make_run, wandb_records):
    settings = ["method=random", "scope=heads_only", "logger=wandb", "logger.group=table9"]
    run = make_run(*settings, "evals=mini", "evals.limit=2")
    execute(run, fit_on_devices)
    live, result = map(wandb_records, sorted(run.folder.glob("wandb/offline-run-*")))
    for records in (live, result):
        (opened,) = [r["run"] for r in records if r["type"] == "run"]
        assert opened["run_id"] == opened["display_name"] == run.key
        assert (opened["run_group"], opened["job_type"]) == ("table9", "train")
        assert set(opened["tags"]) == {"random", "tiny", "mini_math"}
        assert opened["config"]["update"]["optim"]["lr"] == run.optim.lr
        assert records[-1]["type"] == "exit" and records[-1]["exit"]["exit_code"] == 0
    rows = read_metrics(run.folder / "metrics.csv")
    steps = [h for h in history(live) if "loss" in h]
    assert [h["_step"] for h in steps] == [int(r["step"]) for r in rows]
    assert [h["loss"] for h in steps] == [float(r["loss"]) for r in rows]
    assert any(r["type"] == "stats" for r in live), "system metrics"
    assert not any(r["type"] == "stats" for r in result)
    evals = json.loads((run.folder / "result.json").read_text())["evals"]
    name, (metric, value) = next((n, m) for n, ms in evals.items() for m in ms.items())
    assert steps[-1][f"{name}/{metric}"] == value, "scores of the trained model, live"
    assert {f"{name}/{metric}/{bound}" for bound in ("low", "high")} <= steps[-1].keys()
    assert not [h for h in history(result) if "loss" in h], "steps are not sent twice"
    (media,) = [h for h in history(result) if "heads/heat_map._type" in h]
    assert media["_step"] == len(rows) + 1
    artifacts = {r["artifact"]["type"] for r in result if r["type"] == "artifact"}
    assert artifacts == {"head_set", "run_table"}
    assert summary(result)[f"{name}/{metric}"] == value


def history(records: list[dict]) -> list[dict]:
    return [r["history"]["item"] for r in records if r["type"] == "history"]


def summary(records: list[dict]) -> dict:
    values = {}
    for record in records:
        if record["type"] == "summary":
            values |= record["summary"]["update"]
    return values


class Interruption(StepCallback):
    """Ends the training in its second step."""

    def on_step_end(self, trainer, module, batch):
        if trainer.global_step == 2:
            raise RunFailed("interrupted")


def test_a_resumed_training_continues_its_run(make_run, wandb_records):
    run = make_run("method=full", "logger=wandb", "trainer.checkpoint_every_n_steps=1")
    with pytest.raises(RunFailed):
        execute(run, lambda run: fit(run, [Interruption()]))
    execute(run, fit)
    records = list(map(wandb_records, sorted(run.folder.glob("wandb/offline-run-*"))))
    ids = {r["run"]["run_id"] for each in records for r in each if r["type"] == "run"}
    assert ids == {run.key}
    steps = [[h["_step"] for h in history(each) if "loss" in h] for each in records]
    assert steps == [[1], [2, 3], [1, 2, 3]], "the result repeats what may have been lost"


def test_it_is_finished_after_a_crash_too(make_run, wandb_records):
    run = make_run("method=full", "logger=wandb", "optim.lr=1e30", "optim.clip_norm=null")
    with pytest.raises(RunFailed):
        execute(run, fit)
    (recorded,) = run.folder.glob("wandb/offline-run-*")
    assert wandb_records(recorded)[-1]["exit"]["exit_code"] == 1
    sent = read_sent(run.folder)
    assert sent and sent.rows and sent.record is None, "the steps, and no result"


@pytest.mark.parametrize("broken", ["init", "log"])
def test_a_failing_logger_never_stops_training(make_run, monkeypatch, caplog, broken):
    def fail(*arguments, **settings):
        raise wandb.errors.UsageError("the server is on fire")

    target = wandb if broken == "init" else wandb.Run
    monkeypatch.setattr(target, broken, fail)
    run = make_run("method=full", "logger=[wandb,tensorboard]")
    execute(run, fit)
    assert RunFolder(run.folder).status()["state"] == "finished"
    said = "W&B logging stopped: the server is on fire; `alps sync` adds what is missing"
    assert caplog.text.count(said) == 2, "for the steps, and for the result"
    assert tensorboard_steps(run.folder) == [1, 2, 3], "other loggers go on"


def test_a_hanging_logger_never_slows_training(make_run, monkeypatch, caplog):
    monkeypatch.setattr(background, "PATIENCE", 0.2)
    monkeypatch.setattr(background.Background.__init__, "__defaults__", (10_000, 0.2))
    monkeypatch.setitem(loggers.OPENERS, "tensorboard", lambda run: time.sleep(20))
    run = make_run("method=full", "logger=tensorboard")
    start = time.monotonic()
    execute(run, fit)
    assert RunFolder(run.folder).status()["state"] == "finished"
    assert time.monotonic() - start < 20
    assert "TensorBoard logging did not end within" in caplog.text


def tensorboard_steps(folder: Path) -> list[int]:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [event.step for event in found.Scalars("loss")]


def test_tensorboard_has_all_steps_and_settings(make_run):
    pytest.importorskip("tensorboard")
    run = make_run("method=full", "logger=[csv,tensorboard]")
    execute(run, fit)
    assert tensorboard_steps(run.folder) == [1, 2, 3]
    assert (run.folder / "metrics.csv").exists()


def test_trackio_has_all_steps(make_run):
    trackio = pytest.importorskip("trackio")
    project = f"alps-{uuid4().hex[:8]}"  # in a folder that is fixed when it is imported
    run = make_run("method=full", "logger=trackio", f"logger.project={project}")
    execute(run, fit)
    logged = trackio.SQLiteStorage.get_logs(project, run.key)
    losses = [row["loss"] for row in logged if "loss" in row]
    assert losses == [float(r["loss"]) for r in read_metrics(run.folder / "metrics.csv")]


@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "[csv,wandb]", "[wandb, tensorboard]"])
def test_the_logger_is_no_part_of_the_key(make_run, logger):
    assert make_run(f"logger={logger}", "logger.group=any").key == make_run().key
