"""Cheap checks of every point come before dear ones of any."""

import json
import os
import sys

import pytest

from alps.cli.__main__ import main


@pytest.fixture
def refusal(monkeypatch, capsys, tmp_path):
    """The sentence with which a sweep is refused, before a model is looked at."""

    def call(*arguments: str) -> str:
        for place in ("alps.pipeline.preflight.materialize", "alps.launch.ranks.fit_on_devices"):
            monkeypatch.setattr(place, lambda *_: pytest.fail("a model is fetched"))
        monkeypatch.setattr(sys, "argv", ["alps", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr().err
        assert end.value.code == 2 and not (tmp_path / "outputs").exists()
        assert "model is fetched" not in said
        return said

    return call


def test_a_wrong_number_of_the_last_point_is_told_before_any_model_is_fetched(refusal):
    said = refusal("train", "-m", "model=tiny", "method=full,alps", "ratio=0.1,7")
    assert said.count("ratio must lie in [0, 1], got 7") == 1


def test_a_wrong_file_of_the_last_point_is_told_before_any_model_is_fetched(refusal, tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    rows = [{"instruction": f"{i}", "output": "b"} for i in range(40)]
    good.write_text("\n".join(map(json.dumps, rows)))
    bad.write_text('{"instruction": "a", "answer": "b"}\n')
    grid = ("train", "-m", "model=tiny", "evals=none", "data=jsonl", "method=random")
    assert "bad.jsonl has no field 'output'" in refusal(*grid, f"data.path={good},{bad}")


def test_evaluations_of_a_grid_are_checked_in_the_same_order(refusal, tmp_path):
    grid = ("evaluate", "-m", "model=tiny", "seed=0,1", f"output_dir={tmp_path}/file/x")
    (tmp_path / "file").write_text("")
    assert "cannot be written to" in refusal(*grid)


def test_what_a_launcher_cannot_do_is_told_before_any_point_is_checked(
    refusal, tmp_path, monkeypatch
):
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sweep = ("train", "-m", "model=tiny", "evals=none", "hydra/launcher=slurm", "method=full")
    assert "time=soon is no time limit" in refusal(*sweep, "hydra.launcher.time=soon")
    few = refusal(*sweep, "hydra.launcher.gpus=1", "trainer.devices=2")
    assert "hydra.launcher.gpus=1 is fewer than trainer.devices=2" in few
