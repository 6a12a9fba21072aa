"""W&B for real, offline; and a training that doesn't care when it breaks."""

import pytest

from alps.execute import execute
from alps.results import RunFailed
from alps.run_folder import RunFolder
from alps.training.fit import fit

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


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
