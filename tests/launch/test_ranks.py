"""Two ranks end where one does, alone and in a sweep, and an error of a rank is told."""

import json
import os
import sys

import pytest
import torch
from safetensors.torch import load_file

from alps.execute import execute
from alps.launch.ranks import _environment, _run_workers, first_error, fit_on_devices
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed

SMALL = ("model=tiny", "evals=none", "data.max_examples=17", "trainer.progress=off")


@pytest.mark.usefixtures("preloaded_ranks")
def test_two_ranks_equal_one_also_under_multirun(alps, tmp_path):
    """17 rows in batches of 8: the last step has one row, so a rank has an empty micro-batch."""
    settings = (*SMALL, "optim.epochs=2", "trainer.micro_batch_size=2")
    points = ("method=no_attn,random", "scope=heads_only")
    alps("train", "-m", *settings, *points, "trainer.devices=2", "output_dir=two", check=0)
    alps("train", "-m", *settings, *points, "output_dir=one", check=0)
    runs = sorted(p.name for p in (tmp_path / "one" / "runs").iterdir())
    assert sorted(p.name for p in (tmp_path / "two" / "runs").iterdir()) == runs and len(runs) == 2
    for key in runs:
        one, two = (RunFolder(tmp_path / n / "runs" / key) for n in ("one", "two"))
        a, b = load_file(one.weights_path), load_file(two.weights_path)
        for name in a:
            torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=2e-6)
        measured = json.loads(two.training_path.read_text())
        assert measured["devices"] == 2
        assert measured["num_steps"] == json.loads(one.training_path.read_text())["num_steps"] == 6


def test_an_error_in_a_rank_reaches_the_parent(make_run):
    """Here the ranks are interpreters of their own, as everywhere outside the tests."""
    run = make_run("method=full", "optim.lr=1e30", "optim.clip_norm=null", "trainer.devices=2")
    with pytest.raises(RunFailed, match="the loss became nan"):
        execute(run, fit_on_devices)
    assert "the loss became nan" in RunFolder(run.folder).status()["reason"]


def test_the_first_error_is_told_not_the_lost_connections(tmp_path):
    for rank, time, message in ((0, 2.0, "Connection closed by peer"), (1, 1.0, "rank 1 broke")):
        plain = {"time": time, "message": message}
        (tmp_path / f"{rank}.error.json").write_text(json.dumps(plain))
    assert first_error(tmp_path) == "rank 1 broke"
    assert first_error(tmp_path / "none") is None


@pytest.mark.parametrize(
    "name",
    ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
     "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_CPUS_PER_TASK"],
)  # fmt: skip
def test_variables_of_a_surrounding_launcher_are_hidden_from_ranks(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OF_THE_USER", "7")
    code = f"import os, sys; sys.exit({name!r} in os.environ or 'OF_THE_USER' not in os.environ)"
    assert _run_workers([sys.executable, "-c", code], _environment(2)) == 0


def test_workers_leave_the_warning_before_a_time_limit_to_their_parent(tmp_path):
    """SLURM may send SIGUSR2 to every process of a job; it would end those that don't listen."""
    code = "import signal, sys; sys.exit(signal.getsignal(signal.SIGUSR2) != signal.SIG_IGN)"
    assert _run_workers([sys.executable, "-c", code], os.environ) == 0
