import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from alps.base import serialization
from alps.evals.context import BenchmarkResult, Uncertainty
from alps.evals.evaluate import evaluate, evaluation_context
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.runs.completion import all_evaluated, weights_fingerprint
from alps.runs.evaluation import read_evaluation
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark


@dataclass(frozen=True, kw_only=True)
class Count(Benchmark):
    """Counts how often it is asked, in its own folder."""

    name: str = "count"
    protocol: str = "plain"
    missing: str | None = None

    def ready(self, data_dir):
        if self.missing:
            raise ValueError(self.missing)

    def fingerprint(self, data_dir):
        path = data_dir and data_dir / "documents"
        return path.read_text() if path and path.exists() else None

    def evaluate(self, subject):
        path = subject.folder / "asked"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("x")
        times = len(path.read_text())
        sure = Uncertainty(stderr=0.5, low=0.0, high=2.0)
        return BenchmarkResult(
            metrics={"times": times}, uncertainty={"times": sure}, num_documents=self.limit or 9
        )


@pytest.fixture
def examine(make_run, tmp_path):
    run = make_run()
    model = load_model(materialize(run.model)).eval()

    def call(weights="w", data_dir: Path | None = None, **settings):
        given = str(data_dir) if data_dir else None
        evals = Evals(benchmarks=(Count(**settings),), data_dir=given)
        folder = RunFolder(tmp_path / "run")
        subject = replace(evaluation_context(run, model), data_dir=data_dir)
        found = evaluate(evals, folder, weights, lambda: subject)
        assert all_evaluated(evals, folder, weights)
        return found["count"].metrics["times"]

    return call


def test_the_same_question_is_asked_once(examine, tmp_path):
    assert examine() == 1 and examine() == 1
    stored = read_evaluation(RunFolder(tmp_path / "run"), "count", "plain")
    assert stored.num_documents == 9 and stored.uncertainty["times"]["high"] == 2.0


def test_another_limit_protocol_or_other_weights_are_another_question(examine):
    assert examine() == 1
    assert examine(limit=3) == 2
    assert examine(limit=3, weights="other") == 3
    assert examine(protocol="alpaca") == 1, "a folder of its own"


def test_other_documents_are_another_question(examine, tmp_path):
    (tmp_path / "documents").write_text("version 1")
    assert examine(data_dir=tmp_path) == 1 and examine(data_dir=tmp_path) == 1
    (tmp_path / "documents").write_text("version 2")
    assert examine(data_dir=tmp_path) == 2
    assert examine() == 2, "nobody knows: without the documents, the result counts"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 0}'])
def test_a_damaged_result_is_made_again(examine, tmp_path, damage):
    examine()
    (tmp_path / "run" / "evals" / "count" / "plain.json").write_text(damage)
    assert examine() == 2


def test_what_is_missing_is_told_before_anything_is_loaded(tmp_path):
    evals = Evals(benchmarks=(Count(missing="no such file"),))
    with pytest.raises(ValueError, match="no such file"):
        evaluate(evals, RunFolder(tmp_path), "w", lambda: pytest.fail("loaded"))


def test_a_result_is_stored_with_what_it_was_made_of(examine, tmp_path):
    examine(weights="abc", limit=2)
    stored = json.loads((tmp_path / "run" / "evals" / "count" / "plain.json").read_text())
    assert stored["weights"] == "abc" and stored["benchmark"]["limit"] == 2
    assert {"lm-eval", "evalplus", "torch"} <= set(stored["versions"])
    assert stored["backend"] == "hf" and stored["generation"]["answers"] == 0


def test_a_training_done_again_is_another_model(make_run):
    from alps.execute import execute
    from alps.training.fit import fit

    run = make_run("method=full", "optim.max_steps=1")
    execute(run, fit)
    before = weights_fingerprint(run)
    assert before == weights_fingerprint(run)
    RunFolder(run.folder).training_path.unlink()
    execute(run, fit)
    assert weights_fingerprint(run) != before


def test_an_evaluation_of_an_earlier_version_is_kept_though_its_class_has_moved(
    examine, tmp_path, monkeypatch
):
    assert examine() == 1
    (path,) = tmp_path.glob("run/evals/count/*.json")
    own = f"{Count.__module__}.Count"
    path.write_text(path.read_text().replace(f'"{own}"', '"alps.evals.counts.Count"'))
    monkeypatch.setitem(serialization.MOVED, "alps.evals.counts", Count.__module__)
    assert examine() == 1
    monkeypatch.delitem(serialization.MOVED, "alps.evals.counts")
    assert examine() == 2
