"""A training that is examined is the same training."""

import csv
import json
import os
import signal
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alps.evals.callback import (
    EvaluationCallback,
    exit_on_signal,
    preserve_modes_and_rng,
    with_document_limit,
)
from alps.evals.run_models import evaluate_base
from alps.execute import execute
from alps.launch.ranks import evaluate_on_devices, fit_on_devices
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.training.fit import fit
from alps.training.module import AlignmentModule

SMALL = ("evals=mini", "evals.limit=3", "optim.epochs=3", "evals.epoch_limit=2")


def fit_examined(run):
    fit(run, [EvaluationCallback(run)])


def curve(run) -> list[str]:
    with (run.folder / "metrics.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of a method that differ in when they are examined, with their results."""
    from alps.config.build import build, compose_config

    @cache
    def train(method: str):
        ended = []
        for examined in (False, True):
            small = ["model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off"]
            place = f"output_dir={tmp_path_factory.mktemp('trained')}"
            more = ["evals.every_n_epochs=1"] if examined else []
            more += ["ratio=0.5"] if method == "random" else []
            run = build(compose_config([*small, f"method={method}", *SMALL, *more, place]))
            ended.append((run, execute(run, fit_examined if examined else fit)))
        return ended

    return train


@pytest.mark.parametrize("method", ["random", "lora"])
def test_the_loss_curve_is_the_same_with_and_without(trained, method):
    (plain, _), (examined, _) = trained(method)
    assert plain.key == examined.key
    assert len(curve(plain)) == 9 and curve(plain) == curve(examined)
    weights = [load_file(RunFolder(r.folder).weights_path) for r in (plain, examined)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_epochs_are_examined_and_so_is_the_end(trained):
    _, (run, result) = trained("random")
    epochs = sorted(p.name for p in (run.folder / "epochs").iterdir())
    assert epochs == ["001", "002"], "the last one is the end"
    for epoch in epochs:
        folder = RunFolder(run.folder / "epochs" / epoch)
        stored = json.loads(folder.evaluation_path("mini_math", "alpaca").read_text())
        assert stored["num_documents"] == 2
    assert set(result.evals) == {"held_out", "mini_math"}
    losses = [
        json.loads(RunFolder(f).evaluation_path("held_out", "answer_tokens").read_text())
        for f in (run.folder / "epochs" / "001", run.folder / "epochs" / "002")
    ]
    first, second = (found["metrics"]["loss"] for found in losses)
    assert first > second, "each epoch's own weights are examined"


@pytest.mark.parametrize("method", ["random", "lora"])
def test_the_end_is_what_evaluate_says_afterwards(trained, method):
    """One engine: the callback's scores are those of the restored model."""
    (_, after), (_, inside) = trained(method)
    assert inside.evals.keys() == after.evals.keys()
    for name, metrics in after.evals.items():
        assert dict(inside.evals[name]) == pytest.approx(dict(metrics), abs=1e-5)


def test_data_without_held_out_rows_is_trained_and_evaluated(make_run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n' * 8)
    data = ("data=jsonl", f"data.path={rows}", "data.test_fraction=0", "data.max_examples=null")
    run = make_run("method=random", *data, "evals=[held_out]")
    assert execute(run, fit_examined).evals == {"held_out": {}}


def test_every_second_epoch(make_run):
    run = make_run("method=random", *SMALL, "optim.epochs=5", "evals.every_n_epochs=2")
    execute(run, fit_examined)
    assert sorted(p.name for p in (run.folder / "epochs").iterdir()) == ["002", "004"]


def test_examining_is_no_training_time(make_run, monkeypatch):
    """The clock stands still but for a second in each step and a thousand in each evaluation."""
    now, evaluated, step = [0.0], [], AlignmentModule.training_step

    def training_step(module, batch, batch_idx):
        now[0] += 1.0
        return step(module, batch, batch_idx)

    def evaluate(*_):
        now[0] += 1000.0
        evaluated.append(now[0])
        return {}

    monkeypatch.setattr(AlignmentModule, "training_step", training_step)
    monkeypatch.setattr("alps.evals.callback.evaluate", evaluate)
    for name in ("metrics", "module"):
        monkeypatch.setattr(f"alps.training.{name}.perf_counter", lambda: now[0])
    run = make_run("method=full", *SMALL, "evals.every_n_epochs=1", "trainer.micro_batch_size=8")
    RunFolder(run.folder).write_run(run)
    fit_examined(run)
    assert len(evaluated) == 3
    seconds = [float(row["seconds"]) for row in read_metrics(run.folder / "metrics.csv")]
    assert seconds == [float(step) for step in range(1, 10)]


def test_modes_and_random_states_come_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    model[1].eval()
    torch.manual_seed(1)
    np.random.seed(1)
    with pytest.raises(RuntimeError), preserve_modes_and_rng(model):
        model.eval()
        raise RuntimeError
    assert [m.training for m in model.modules()] == [True, True, False]
    with preserve_modes_and_rng(model):
        model.eval()
        torch.rand(3)
        np.random.rand(3)
    assert [m.training for m in model.modules()] == [True, True, False]
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    assert drawn == (torch.rand(1), np.random.rand())


def test_a_signal_ends_an_examination_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, exit_on_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_fewer_documents_but_never_more(make_run):
    evals = make_run("evals=mini", "evals.limit=5").evals
    assert {b.limit for b in with_document_limit(evals, 2).benchmarks} == {2}
    assert {b.limit for b in with_document_limit(evals, 50).benchmarks} == {5}


def scores(folder: Path) -> dict[str, object]:
    found = {}
    for path in sorted((folder / "evals").glob("*/*.json")):
        stored = json.loads(path.read_text())
        found[path.parent.name] = (stored["metrics"], stored["num_documents"])
    for path in sorted((folder / "evals").rglob("samples*.jsonl")):
        found[path.name] = path.read_text()
    return found


@pytest.mark.usefixtures("preloaded_ranks")
def test_two_ranks_score_as_one(make_run, tmp_path):
    """Of a base model: shares of the documents, gathered, to the last sample."""
    settings = ("evals=mini", "evals.limit=7", "data=mini_general")
    one = make_run(*settings, output_dir=str(tmp_path / "one"))
    two = make_run(*settings, "trainer.devices=2", output_dir=str(tmp_path / "two"))
    evaluate_base(one)
    evaluate_on_devices(two, trained=False)
    found = scores(two.base_folder)
    assert found == scores(one.base_folder)
    assert len(found) == 2 and len(list(two.base_folder.rglob("answers.?.jsonl"))) == 2
    assert list(scores(two.base_data_folder)) == ["held_out"]
    assert scores(two.base_data_folder) == scores(one.base_data_folder)


@pytest.mark.usefixtures("preloaded_ranks")
def test_two_ranks_examine_what_they_trained(make_run, tmp_path):
    settings = ("method=random", "evals=mini", "evals.limit=5", "optim.max_steps=2")
    run = make_run(*settings, "trainer.devices=2")
    result = execute(run, fit_on_devices)
    assert {p.name for p in run.folder.rglob("answers.*")} == {"answers.0.jsonl", "answers.1.jsonl"}
    again = make_run(*settings, "evals.limit=6", "trainer.devices=2")
    evaluate_on_devices(again, RunFolder(run.folder))
    assert execute(again, fit_on_devices).evals.keys() == result.evals.keys()


KILLED = """
import os, sys
from alps.evals.engine import language_model
from alps.cli.__main__ import main
journal = language_model.Journal
real = journal.add
def add(self, request, answer):
    real(self, request, answer)
    if len(self._answers) == 2:
        os.kill(os.getpid(), 9)
journal.add = add
sys.argv[1:] = {arguments}
main()
"""


def test_an_evaluation_killed_between_two_answers_goes_on(tmp_path, alps, preloaded):
    arguments = ["evaluate", "model=tiny", "evals=mini", "evals.limit=4", "evals.batch_size=1"]
    code = KILLED.format(arguments=arguments)
    died = preloaded.run("-c", code, cwd=tmp_path)
    assert died.returncode == -signal.SIGKILL
    (path,) = tmp_path.glob("outputs/evals/*/evals/mini_math/alpaca/answers.0.jsonl")
    assert len(path.read_text().splitlines()) == 3
    assert not path.parent.with_suffix(".json").exists()
    alps(*arguments, check=0)
    stored = json.loads(path.parent.with_suffix(".json").read_text())
    assert stored["num_documents"] == 4 and stored["generation"]["answers"] == 2
