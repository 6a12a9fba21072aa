from statistics import mean

import numpy as np
import pytest

from alps.evals.statistics import variance_components
from alps.report.page.differences import paired_half_widths, pairs, pooled, scores_of
from alps.report.page.page_run import runs_in_folder


def test_half_widths_of_all_pairs_are_those_of_the_statistics():
    deviations = np.random.default_rng(0).normal(size=(4, 30))
    found = paired_half_widths(deviations)
    for i in range(4):
        for j in range(4):
            pair = variance_components([0.0], [{"": deviations[i] - deviations[j]}])
            assert found[i, j] == pytest.approx(pair.half_width(), abs=1e-6)


def test_pairs_are_of_runs_that_answered_the_same_documents(made, some_runs):
    made.finish(made.run("full", seed=5), {"gsm8k": [1, 0, 1]})  # other documents
    runs = runs_in_folder(made.output_dir)
    (pool,) = pairs(runs, ["gsm8k"])["pools"]["gsm8k"][:1]
    methods = [runs[i].key.split("-")[0] for i in pool["runs"]]
    assert sorted(methods) == ["alps", "base", "full", "random"]
    assert [len(row) for row in pool["half"]] == [0, 1, 2, 3]
    scores = scores_of(runs, "gsm8k")
    a, b = (scores[i].deviations for i in pool["runs"][:2])
    assert a is not None and b is not None
    expected = variance_components([0.0], [{"": a - b}]).half_width()
    assert pool["half"][1][0] == pytest.approx(expected, rel=1e-3)


def test_too_many_pairs_are_left_out_and_that_is_said(made, some_runs, monkeypatch):
    monkeypatch.setattr("alps.report.page.differences.MAX_PAIRS", 3)
    found = pairs(runs_in_folder(made.output_dir), ["gsm8k"])
    assert found["pools"] == {}
    assert found["omitted"] == ["gsm8k: 4 runs make too many pairs for a page"]


def test_seeds_are_paired_and_pooled(made):
    answers = {
        ("full", 0): [1, 1, 0, 1, 0, 1], ("full", 1): [1, 0, 0, 1, 1, 1],
        ("alps", 0): [1, 0, 0, 1, 0, 1], ("alps", 1): [0, 0, 0, 1, 1, 0],
    }  # fmt: skip
    for (method, seed), right in answers.items():
        made.finish(made.run(method, seed=seed), {"gsm8k": right})
    made.finish_base(made.run("full"), {"gsm8k": [0, 0, 0, 1, 0, 0]})
    runs = runs_in_folder(made.output_dir)
    rows = pooled(runs, ["gsm8k"])
    (row,) = [r for r in rows if r["to"] == "full"]
    assert {runs[i].key.split("-")[0] for i in row["runs"]} == {"alps"} and row["seeds"] == 2
    differences = [mean(answers["alps", seed]) - mean(answers["full", seed]) for seed in (0, 1)]
    assert row["value"] == pytest.approx(mean(differences), rel=1e-5)
    scores = scores_of(runs, "gsm8k")
    by_name = {(r.run.method.name, r.run.seed): scores[i].deviations
               for i, r in enumerate(runs) if not r.is_base}  # fmt: skip
    expected = variance_components(
        differences, [{"": by_name["alps", s] - by_name["full", s]} for s in (0, 1)]
    ).interval(mean(differences))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected), rel=1e-4)
    assert [r["seeds"] for r in rows if r["to"] == "base"] == [2, 2]
