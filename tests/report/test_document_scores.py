"""Scores of single documents, read from what evaluations of every sort leave."""

import gzip
import json

import pytest

from alps.base.serialization import to_dict
from alps.evals.statistics import point_estimate
from alps.report.outcomes import document_scores
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder


@pytest.fixture
def leave(tmp_path):
    """Leaves samples of a benchmark, and returns its documents if the score is this."""

    def samples(benchmark, lines, score, packed=False):
        folder = RunFolder(tmp_path / "run")
        own = folder.evaluation_path(benchmark.name, benchmark.protocol).with_suffix("")
        own.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        path = own / f"samples_{benchmark.name}.jsonl"
        if packed:
            with gzip.open(f"{path}.gz", "wt") as file:
                file.write(text)
        else:
            path.write_text(text)
        found = Evaluation(
            benchmark=json.loads(json.dumps(to_dict(benchmark))), weights="w",
            metrics={"headline": score}, num_documents=len(lines),
        )  # fmt: skip
        return document_scores(folder, found)

    return samples


def by_name(make_run, name: str):
    (benchmark,) = make_run(f"+evals/benchmark@evals.benchmarks.x={name}").evals.benchmarks
    return benchmark


@pytest.mark.parametrize("packed", [False, True])
def test_gsm8k_counts_its_headline_filter_only(make_run, leave, packed):
    lines = [
        {"doc_id": i, "doc_hash": f"h{i}", "filter": name, "exact_match": right}
        for i, rights in enumerate(((1, 1), (0, 1)))
        for name, right in zip(("strict-match", "flexible-extract"), rights, strict=True)
    ]
    found = leave(by_name(make_run, "gsm8k"), lines, 0.5, packed)
    assert list(found.ratios[0].numerators) == [1.0, 0.0]


def test_samples_of_another_filter_give_nothing(make_run, leave):
    lines = [{"doc_id": 0, "doc_hash": "h", "filter": "flexible-extract", "exact_match": 1.0}]
    assert leave(by_name(make_run, "gsm8k"), lines, 1.0) is None


def test_ifeval_has_four_parts(make_run, leave):
    one = {
        "prompt_level_strict_acc": False,
        "prompt_level_loose_acc": True,
        "inst_level_strict_acc": [True, False],
        "inst_level_loose_acc": [True, True],
    }
    lines = [{"doc_id": i, "doc_hash": f"h{i}", "filter": "none", **one} for i in range(3)]
    found = leave(by_name(make_run, "ifeval"), lines, (0 + 0.5 + 1 + 1) / 4)
    assert len(found.ratios) == 4 and point_estimate(*found.ratios) == 0.625


def test_mmlu_has_subjects(make_run, leave):
    rights = {"law": (1, 1), "art": (0, 1, 0, 0)}
    lines = [
        {"doc_id": i, "filter": "none", "doc": {"subject": s}, "acc": right}
        for s, each in rights.items()
        for i, right in enumerate(each)
    ]
    found = leave(by_name(make_run, "mmlu"), lines, 0.625)
    assert list(found.groups) == ["law"] * 2 + ["art"] * 4


def test_code_is_read_from_verdicts_and_base_and_plus_are_the_same_documents(made):
    run = made.run(data="magicoder", benchmarks=("humaneval", "humaneval_plus"))
    made.finish(run, {"humaneval": [1, 1, 0], "humaneval_plus": [1, 0, 0]})
    folder, found = RunFolder(run.folder), {}
    for name in ("humaneval", "humaneval_plus"):
        evaluation = json.loads(folder.evaluation_path(name, "alpaca").read_text())
        found[name] = document_scores(folder, Evaluation(**evaluation))
    assert list(found["humaneval"].ratios[0].numerators) == [1.0, 1.0, 0.0]
    assert list(found["humaneval_plus"].ratios[0].numerators) == [1.0, 0.0, 0.0]
    assert found["humaneval"].pool == found["humaneval_plus"].pool


def test_other_documents_are_another_pool(make_run, leave):
    gsm8k = by_name(make_run, "gsm8k")
    pools = [
        leave(
            gsm8k, [{"doc_id": 0, "doc_hash": h, "filter": "strict-match", "exact_match": 1}], 1.0
        )
        for h in ("a", "b", "a")
    ]
    assert pools[0].pool == pools[2].pool != pools[1].pool


def test_a_benchmark_that_is_gone_has_no_documents(make_run, leave, tmp_path):
    gone = Evaluation(
        benchmark={"_target_": "alps.evals.gone.Gone", "name": "x", "protocol": "plain"},
        weights="w", metrics={"a": 1.0}, num_documents=1,
    )  # fmt: skip
    assert document_scores(RunFolder(tmp_path), gone) is None
