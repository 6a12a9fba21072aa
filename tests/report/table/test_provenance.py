import json
from dataclasses import replace

import pytest

from alps.report.table.cells import fill_table
from alps.report.table.layout import build_layout
from alps.report.table.provenance import provenance
from alps.runs.folder import RunFolder

RIGHT = {"gsm8k": [1.0, 0.0, 1.0, 0.0]}


def of(runs):
    filled = fill_table(build_layout(runs, []))
    found = provenance(filled)
    return found, [row.kind.method for row in filled.layout.rows]


def four(made, **changes):
    """Finished runs, the last of them with other facts."""
    runs = [made.run(m) for m in ("full", "no_attn", "random", "alps")]
    for run in runs[:-1]:
        made.finish(run, RIGHT)
    made.finish(runs[-1], RIGHT, **changes)
    return runs


def test_runs_of_one_origin_have_no_marks(made):
    found, _ = of(four(made))
    assert not found.marks and not found.notes
    assert found.facts == (
        "trained in 32-true on one device: all runs",
        "code: alps 1, commit cccccccccc",
    )


def test_another_commit_is_marked_and_explained(made):
    found, methods = of(four(made, git_commit="d" * 40))
    assert found.marks == {methods.index("alps"): "a"}
    assert "commit dddddddddd, where most have" in found.notes["a"]


def test_the_same_commit_with_changes_is_another(made):
    found, _ = of(four(made, git_dirty=True))
    assert "in no commit" in found.notes["a"]


def test_other_data_of_the_same_name_are_marked(made):
    found, methods = of(four(made, data_hash="other"))
    assert found.marks == {methods.index("alps"): "a"}
    assert found.notes["a"] == "data mathinstruct: other, where most have mathinstruct-hash"


@pytest.mark.parametrize(
    ("part", "named"), [("model", "base model llama3_2_1b"), ("data", "data mathinstruct")]
)
def test_another_commit_on_the_hub_is_marked(made, part, named):
    found, _ = of(four(made, commits={part: "0123456789abcdef0123"}))
    assert found.notes["a"].startswith(named) and "0123456789" in found.notes["a"]


def test_other_packages_are_marked(made):
    found, _ = of(four(made, versions={"alps": "1", "torch": "3"}))
    assert found.notes["a"] == "torch: 3, where most have 2"


def test_fewer_documents_are_marked(made):
    runs = four(made)
    made.finish(runs[-1], {"gsm8k": [1.0, 0.0]})
    found, _ = of(runs)
    assert found.notes["a"] == "number of documents of gsm8k: 2, where most have 4"


def test_another_precision_of_the_evaluation_is_marked(made):
    runs = four(made)
    path = RunFolder(runs[-1].folder).evaluation_path("gsm8k", "alpaca")
    path.write_text(json.dumps({**json.loads(path.read_text()), "precision": "bf16"}))
    found, methods = of(runs)
    assert found.marks == {methods.index("alps"): "a"}
    assert found.notes["a"] == "precision in which gsm8k was evaluated: bf16, where most have 32"


def test_an_evaluation_in_another_precision_than_asked_is_marked(made):
    runs = four(made)
    runs[-1] = replace(runs[-1], evals=replace(runs[-1].evals, precision="bf16"))
    found, _ = of(runs)
    assert "asked otherwise than this experiment does: precision=32" in found.notes["a"]


def test_an_evaluation_that_was_asked_otherwise_is_marked(made):
    runs = four(made)
    (asked,) = runs[-1].evals.benchmarks
    now = replace(runs[-1].evals, benchmarks=(replace(asked, limit=4),))
    runs[-1] = replace(runs[-1], evals=now)
    found, _ = of(runs)
    assert "asked otherwise than this experiment does: limit=None" in found.notes["a"]


def test_another_precision_than_asked_is_a_deviation(made):
    optim = replace(made.run().optim, precision="16-mixed")
    run, other = made.run(optim=optim), made.run("alps", optim=optim)
    said = ["precision 16-mixed was asked, bf16-mixed ran"]
    made.finish(run, RIGHT, precision="bf16-mixed", devices=8, deviations=said)
    made.finish(other, RIGHT, precision="16-mixed")
    found, _ = of([run, other])
    assert found.facts[:3] == (
        "trained in bf16-mixed on 8 devices: 1 of 2 runs (llama3_2_1b)",
        "trained in 16-mixed on one device: 1 of 2 runs (llama3_2_1b)",
        "deviation: precision 16-mixed was asked, bf16-mixed ran: 1 of 2 runs (llama3_2_1b)",
    )


def test_an_average_over_seeds_of_two_commits_is_marked(made):
    runs = [made.run(seed=seed) for seed in (0, 1, 2)]
    for run, commit in zip(runs, "ccd", strict=True):
        made.finish(run, RIGHT, git_commit=commit * 40)
    found, _ = of(runs)
    assert found.marks == {0: "a"}
