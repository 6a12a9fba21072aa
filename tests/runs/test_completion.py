"""A base model is asked once what does not depend on the data, and held-out rows of each data."""

from dataclasses import dataclass, replace

import pytest

from alps.evals.context import BenchmarkResult
from alps.evals.held_out import HeldOut
from alps.evals.run_models import evaluate_base
from alps.pipeline.preflight import check
from alps.report.outcomes import RunOutcome
from alps.runs.completion import base_is_finished, base_result
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark

DATA = ("mini_general", "mini_math", "mini_code")
ASKED: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Question(Benchmark):
    """Notes in which template it is asked."""

    name: str = "question"
    protocol: str = "alpaca"

    def evaluate(self, subject):
        ASKED.append(subject.data.template)
        return BenchmarkResult(metrics={"times": float(len(ASKED))}, num_documents=1)


BENCHMARKS = (Question(), HeldOut(name="held_out", protocol="answer_tokens", limit=4))


@pytest.fixture
def runs(make_run):
    """One of each data, with a question and the held-out loss."""
    ASKED.clear()
    evals = Evals(benchmarks=BENCHMARKS)
    return [make_run(f"data={name}", evals=evals) for name in DATA]


def test_one_question_serves_all_data_and_each_data_has_its_loss(runs):
    found = [evaluate_base(run) for run in runs]
    assert ASKED == ["alpaca"]
    assert [each.data for each in found] == list(DATA)
    losses = [each.evals["held_out"]["loss"] for each in found]
    assert len(set(losses)) == 3 and all(each.evals["question"]["times"] == 1 for each in found)
    subjects = [RunOutcome(run, base=True) for run in runs]
    assert [s.score("held_out").value for s in subjects] == losses
    assert [s.score("question").value for s in subjects] == [1.0] * 3
    assert len({s.key for s in subjects}) == 3, "each has documents of its own"
    for run in runs:
        assert base_is_finished(run)
        assert evaluate_base(run).evals["held_out"] == base_result(run).evals["held_out"]
    assert ASKED == ["alpaca"]


def test_another_template_is_another_question(runs):
    evaluate_base(runs[1])
    evaluate_base(replace(runs[1], data=replace(runs[1].data, template="plain")))
    assert ASKED == ["alpaca", "plain"]


def test_what_was_asked_for_one_data_is_there_for_another_before_its_loss_is(runs):
    evaluate_base(runs[0])
    other = runs[1]
    assert not base_is_finished(other)
    subject = RunOutcome(other, base=True)
    assert subject.score("question").value == 1.0
    assert subject.score("held_out").trouble == "not evaluated"
    assert base_is_finished(replace(other, evals=Evals(benchmarks=BENCHMARKS[:1])))


def test_nothing_asked_makes_no_folder(make_run, tmp_path):
    assert evaluate_base(make_run()) is None
    assert not (tmp_path / "outputs").exists()


def test_rows_are_checked_only_for_benchmarks_that_read_them(make_run, tmp_path):
    from alps.data.sources.jsonl import Jsonl

    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "a"}\n')
    run = replace(make_run(), data=Jsonl(name="rows", path=str(file)))
    check(replace(run, evals=Evals(benchmarks=BENCHMARKS[:1])), trains=False)
    with pytest.raises(ValueError, match=r"rows.jsonl has no field 'output'"):
        check(replace(run, evals=Evals(benchmarks=BENCHMARKS)), trains=False)
