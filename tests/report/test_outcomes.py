"""What became of a run: damaged files are said, and only a failure that matters hides a number."""

import gzip
import json
from dataclasses import replace

import pytest

from alps.base.atomic import write_json
from alps.report.outcomes import MissingScore, RunOutcome, Score
from alps.runs.completion import weights_fingerprint
from alps.runs.evaluation import cached_evaluation, read_evaluation
from alps.runs.folder import RunFolder

RIGHT = [1.0, 0.0, 1.0, 0.0]


def evaluation_path(run):
    (benchmark,) = run.evals.benchmarks
    return RunFolder(run.folder).evaluation_path(benchmark.name, benchmark.protocol)


def change(run, **changes) -> None:
    path = evaluation_path(run)
    write_json(path, {**json.loads(path.read_text()), **changes})


def finish_whole(made, run) -> None:
    """With what shows that the evaluation is of the weights that are there."""
    made.finish(run, {"gsm8k": RIGHT})
    write_json(RunFolder(run.folder).training_path, {"num_trainable": 1})
    (benchmark,) = run.evals.benchmarks
    change(run, weights=weights_fingerprint(run), documents=benchmark.fingerprint(None))


DAMAGE = {
    "schema_version": 99,
    "metrics": {"accuracy": "high"},
    "benchmark": [],
    "uncertainty": {"accuracy": {"low": None}},
    "num_documents": "many",
}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_damaged_evaluation_is_unreadable_and_names_its_file(field, made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    change(run, **{field: DAMAGE[field]})
    gap = RunOutcome(run).score("gsm8k")
    assert isinstance(gap, MissingScore) and gap.trouble == "unreadable"
    assert str(evaluation_path(run)) in gap.reason and "delete it" in gap.reason
    assert "\n" not in gap.reason


def test_an_evaluation_without_numbers_is_not_called_unasked(made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    change(run, metrics={})
    gap = RunOutcome(run).score("gsm8k")
    assert isinstance(gap, MissingScore) and gap.reason == "gsm8k gave no number"


@pytest.mark.parametrize("field", ["name", "protocol"])
def test_an_evaluation_of_something_else_is_unreadable(field, made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    own = json.loads(evaluation_path(run).read_text())["benchmark"]
    change(run, benchmark={**own, field: "other"})
    gap = RunOutcome(run).score("gsm8k")
    assert (
        isinstance(gap, MissingScore)
        and gap.trouble == "unreadable"
        and "it is not of" in gap.reason
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', '{"schema_version": 1}', "\x00"])
def test_a_file_that_is_no_evaluation_is_unreadable(text, made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    evaluation_path(run).write_text(text)
    gap = RunOutcome(run).score("gsm8k")
    assert isinstance(gap, MissingScore) and gap.trouble == "unreadable"


def test_a_damaged_evaluation_is_made_again(made):
    run = made.run()
    finish_whole(made, run)
    (benchmark,) = run.evals.benchmarks
    folder, weights = RunFolder(run.folder), weights_fingerprint(run)
    assert cached_evaluation(benchmark, folder, weights, None) is not None
    change(run, metrics={"accuracy": "high"})
    assert cached_evaluation(benchmark, folder, weights, None) is None
    evaluation_path(run).unlink()
    assert cached_evaluation(benchmark, folder, weights, None) is None
    assert read_evaluation(folder, benchmark.name, benchmark.protocol) is None


def test_fields_of_a_later_version_do_no_harm(made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    change(run, something_new=1)
    assert isinstance(RunOutcome(run).score("gsm8k"), Score)


@pytest.mark.parametrize("packed", [False, True])
def test_samples_that_are_empty_or_torn_are_not_drawn_from(packed, made):
    run = made.run()
    made.finish(run, {"gsm8k": RIGHT})
    (samples,) = (run.folder / "evals").rglob("samples_gsm8k.jsonl")
    if packed:
        whole = gzip.compress(samples.read_bytes())
        samples.with_name(f"{samples.name}.gz").write_bytes(whole[: len(whole) // 2])
    samples.write_text("")
    score = RunOutcome(run).score("gsm8k")
    assert isinstance(score, Score) and score.value == 0.5 and score.documents is None


def test_verdicts_that_are_empty_are_not_drawn_from(made):
    run = made.run(data="magicoder", benchmarks=("humaneval",))
    made.finish(run, {"humaneval": RIGHT})
    (verdicts,) = (run.folder / "evals").rglob("verdicts.json")
    verdicts.write_text('{"notes": {}}')
    score = RunOutcome(run).score("humaneval")
    assert isinstance(score, Score) and score.documents is None


def test_a_run_in_which_another_benchmark_failed_later_shows_its_numbers(made):
    run = made.run()
    finish_whole(made, run)
    RunFolder(run.folder).set_status("failed", "humaneval needs its documents")
    score = RunOutcome(run).score("gsm8k")
    assert isinstance(score, Score) and score.value == 0.5


def test_a_run_that_failed_in_what_is_asked_has_failed(made):
    run = made.run()
    finish_whole(made, run)
    RunFolder(run.folder).set_status("failed", "humaneval needs its documents")
    more = made.run(benchmarks=("gsm8k", "held_out"))
    assert more.key == run.key
    gap = RunOutcome(more).score("gsm8k")
    assert isinstance(gap, MissingScore) and gap.reason == "humaneval needs its documents"


@pytest.mark.parametrize("damaged", ["result.json", "evaluation", "training.json"])
def test_a_damaged_file_leaves_a_failed_run_failed(damaged, made):
    run = made.run()
    finish_whole(made, run)
    folder = RunFolder(run.folder)
    folder.set_status("failed", "the disk is full")
    paths = {"result.json": folder.result_path, "training.json": folder.training_path}
    paths.get(damaged, evaluation_path(run)).write_text("[]")
    gap = RunOutcome(run).score("gsm8k")
    assert isinstance(gap, MissingScore) and (gap.trouble, gap.reason) == (
        "failed",
        "the disk is full",
    )


def test_hours_of_such_a_run_are_no_gap(made):
    run = replace(made.run(), seed=3)
    finish_whole(made, run)
    RunFolder(run.folder).set_status("failed", "humaneval needs its documents")
    subject = RunOutcome(run)
    assert subject.gap is None and subject.result is not None
