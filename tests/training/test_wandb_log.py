"""W&B for real, offline; and a training that doesn't care when it breaks."""

import os
from urllib.parse import urlsplit

import pytest

from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.training.fit import fit

wandb = pytest.importorskip("wandb")


KEY = "0123456789" * 4
HOST = "wandb.example.org"


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """W&B as on a new machine; it remembers settings and credentials for the whole process."""
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")  # it asks the server for the name it would greet
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    wandb.teardown()
    yield
    wandb.teardown()


def mode_of_init(run, monkeypatch) -> str:
    """What W&B is asked for, which would then go online."""
    asked = []

    def init(**settings):
        asked.append(settings["mode"])
        raise wandb.errors.UsageError("no network in tests")

    monkeypatch.setattr(wandb, "init", init)
    execute(run, fit)
    (mode,) = asked
    return mode or wandb.setup().settings.mode


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize(("mode", "recorded"), [("offline", 1), ("disabled", 0)])
def test_wandb_mode_wins(make_run, monkeypatch, mode, recorded, key):
    monkeypatch.setenv("WANDB_MODE", mode)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    run = make_run("method=full", "logger=wandb", "optim.max_steps=1")
    execute(run, fit)
    outputs = run.folder.parents[1]
    assert len(list(outputs.rglob("*.wandb"))) == recorded
    assert recorded or not list(outputs.rglob("wandb"))
    assert wandb.run is None


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
    assert mode_of_init(run, monkeypatch) == mode


def test_without_a_key_the_run_is_recorded_offline_and_finished(make_run):
    run = make_run("method=full", "logger=wandb")
    execute(run, fit)
    recorded = list(run.folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(recorded) == 1 and recorded[0].stat().st_size > 0
    assert f"run-{run.key}.wandb" == recorded[0].name
    assert wandb.run is None


def test_it_is_finished_after_a_crash_too(make_run):
    run = make_run("method=full", "logger=wandb", "optim.lr=1e30", "optim.clip_norm=null")
    with pytest.raises(RunFailed):
        execute(run, fit)
    assert wandb.run is None


@pytest.mark.parametrize("broken", ["init", "log"])
def test_a_failing_logger_never_stops_training(make_run, monkeypatch, caplog, broken):
    def fail(*arguments, **settings):
        raise wandb.errors.UsageError("the server is on fire")

    target = wandb if broken == "init" else wandb.Run
    monkeypatch.setattr(target, broken, fail)
    run = make_run("method=full", "logger=wandb")
    execute(run, fit)
    assert RunFolder(run.folder).status()["state"] == "finished"
    assert caplog.text.count("the server is on fire") == 1
    assert wandb.run is None, "an opened run must be finished"


def test_the_logger_is_no_part_of_the_key(make_run):
    assert make_run("logger=wandb").key == make_run().key
