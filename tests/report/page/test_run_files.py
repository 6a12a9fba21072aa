import json

import pytest

from alps.report.page.page_run import runs_in_folder
from alps.report.page.run_files import (
    MAX_POINTS,
    MAX_TEXT,
    head_set,
    loss_curve,
    rounded,
    samples,
    thinned,
)
from alps.runs.folder import RunFolder


def test_thinned_keeps_the_ends_and_spreads_evenly():
    assert thinned(3, 5) == [0, 1, 2]
    found = thinned(1001, 5)
    assert found == [0, 250, 500, 750, 1000]
    assert len(thinned(10_000)) == MAX_POINTS and thinned(10_000)[-1] == 9999


def test_rounded_keeps_what_json_can_hold():
    assert rounded(0.123456789) == 0.123457 and rounded("3.0") == 3
    assert rounded(float("nan")) is rounded(float("inf")) is None
    assert rounded(1e300) == 1e300 and isinstance(rounded(1e300), float)


def run_of(made, run):
    return next(r for r in runs_in_folder(made.output_dir) if r.key == run.key)


def test_steps_and_tokens_are_exact(made, some_runs, curve):
    curve(some_runs["full"], 123_457)
    found = loss_curve(run_of(made, some_runs["full"]))
    assert (found["step"][-1], found["tokens"][-1]) == (123_457, 12_345_700)
    assert found["seconds"][-1] == 30864.2


def test_a_long_curve_is_thinned_and_says_so(made, some_runs, curve):
    curve(some_runs["full"], 5000)
    found = loss_curve(run_of(made, some_runs["full"]))
    assert found["total"] == 5000 and len(found["loss"]) == MAX_POINTS
    assert (found["step"][0], found["step"][-1]) == (1, 5000)
    assert (found["tokens"][-1], found["seconds"][-1]) == (500_000, 1250)
    assert loss_curve(run_of(made, some_runs["failed"])) is None


def test_heads_are_places_row_by_row(made, some_runs):
    found = head_set(run_of(made, some_runs["alps"]))
    assert found["chosen"] == [1, 13] and found["metric"] == "pad"
    assert found["scores"][2][1] == pytest.approx(1 / 14, rel=1e-5)
    assert head_set(run_of(made, some_runs["full"])) is None


def test_samples_have_verdicts_and_bounded_texts(made, hostile_run):
    found, total = samples(run_of(made, hostile_run), "gsm8k", 1)
    assert total == 2 and [s.verdict for s in found] == [1.0]
    path = RunFolder(hostile_run.folder).path / "evals/gsm8k/alpaca/samples_gsm8k.jsonl"
    line = {**json.loads(path.read_text().splitlines()[0]), "target": "x" * 2000}
    path.write_text(json.dumps(line) + "\n")
    ((sample,), _) = samples(run_of(made, hostile_run), "gsm8k", 5)
    assert sample.target == "x" * MAX_TEXT + " … (1,300 more characters)"


def test_programs_have_the_sandbox_s_verdicts(made):
    run = made.run("full", benchmarks=("humaneval", "humaneval_plus"))
    made.finish(run, {"humaneval": [1, 1], "humaneval_plus": [1, 0]})
    (folder,) = RunFolder(run.folder).path.rglob("verdicts.json")
    programs = [{"task_id": f"HumanEval/{i}", "solution": f"def f{i}(): ..."} for i in (0, 1)]
    text = "".join(json.dumps(program) + "\n" for program in programs)
    folder.with_name("samples.jsonl").write_text(text)
    for name, verdicts in (("humaneval", [1, 1]), ("humaneval_plus", [1, 0])):
        found, total = samples(run_of(made, run), name, 9)
        assert total == 2 and [s.verdict for s in found] == verdicts
        assert found[1].answer == "def f1(): ..."
