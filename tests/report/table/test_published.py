"""A table made again from its two files alone."""

import csv
import gzip
import json
import shutil

import pytest

from alps.report.table.cells import fill_table
from alps.report.table.formats import csv_text, markdown
from alps.report.table.layout import build_layout
from alps.report.table.notes import build_notes
from alps.report.table.paper import PaperNumber
from alps.report.table.provenance import provenance
from alps.report.table.published import DOCUMENTS, FIELDS, RUNS, publish, read_published
from alps.settings.interfaces import Benchmark

DATA = ("mathinstruct", "magicoder")
SETTINGS = ("scale=mini", "seed=0,1")


def texts(filled) -> tuple[str, str]:
    found = provenance(filled)
    notes = build_notes(filled, found, "alps train experiment=x")
    return markdown("Table", filled, found, notes), csv_text(filled, found)


@pytest.fixture
def layout(made):
    """Two methods of two seeds on two datasets, a model as it is, one failed, one not run."""
    code = ("humaneval", "humaneval_plus", "held_out")
    runs = [
        made.run(m, data=d, seed=s, benchmarks=b)
        for m in ("full", "random", "alps")
        for s in (0, 1)
        for d, b in (("mathinstruct", ("gsm8k",)), ("magicoder", code))
    ]
    for i, run in enumerate(runs[:-2]):
        right = [1.0] * (5 + i) + [0.0] * (20 - i)
        losses = {"held_out": [0.1 * i + 1 / (1 + k) for k in range(9)]}
        code_scores = {"humaneval": right, "humaneval_plus": [0.0, *right[1:]], **losses}
        made.finish(run, {"gsm8k": right} if run.data.task == "math" else code_scores)
    made.fail(runs[-1], "the loss is nan")
    made.finish_base(runs[0], {"gsm8k": [1.0, 0.0] * 12 + [1.0]})
    facts = {"data": (), "ratio": None, "task_model": None, "task_data": None, "metric": "x",
             "benchmarks": ("gsm8k",), "value": 1.0, "model": "not one of these"}  # fmt: skip
    return build_layout(
        runs, [PaperNumber(row="x, vanilla", column="GSM8K", method="base", **facts)]
    )


def test_losses_of_a_model_as_it_is_are_kept_for_each_data(made, tmp_path):
    runs = [made.run(data=d, benchmarks=("gsm8k", "held_out"), model="tiny") for d in DATA]
    for i, run in enumerate(runs):
        made.finish(run, {"gsm8k": [1.0, 0.0], "held_out": [0.5 + i, 0.1]})
        made.finish_base(run, {"gsm8k": [1.0, 0.0, 0.0], "held_out": [2.0 + i, 1.0]})
    facts = {"ratio": None, "task_model": None, "task_data": None, "metric": "x", "value": 1.0}
    paper = [
        PaperNumber(row=f"x, {m}", column=d, model="x", data=(d,), method=m,
                benchmarks=("gsm8k",), **facts)
        for m in ("base", "full")
        for d in DATA
    ]  # fmt: skip
    before = fill_table(build_layout(runs, paper))
    publish("table1", SETTINGS, before, tmp_path / "kept")
    shutil.rmtree(made.output_dir)
    after = fill_table(before.layout, read_published(tmp_path / "kept").read)
    values = {
        c.label: cell.value for c, cell in zip(after.layout.columns, after.cells[0], strict=True)
    }
    assert {k: v for k, v in values.items() if "held_out" in k} == {
        f"held_out loss ({d})": (3.0 + i) / 2 for i, d in enumerate(DATA)
    }
    assert texts(after) == texts(before)


def test_the_table_is_the_same_without_its_runs(made, layout, tmp_path):
    before = fill_table(layout)
    publish("table1", SETTINGS, before, tmp_path / "kept")
    shutil.rmtree(made.output_dir)
    found = read_published(tmp_path / "kept")
    assert (found.experiment, found.settings) == ("table1", SETTINGS)
    after = fill_table(layout, found.read)
    assert texts(after) == texts(before) and "vanilla" in texts(after)[0]
    for one, other in zip(before.cells, after.cells, strict=True):
        assert [c.interval for c in one] == [c.interval for c in other]
        assert [c.from_random for c in one] == [c.from_random for c in other]
    assert [[s.key for s in each] for each in after.outcomes] == [
        [s.key for s in each] for each in before.outcomes
    ]


def test_the_same_table_is_the_same_bytes(layout, tmp_path):
    for name in ("first", "second"):
        publish("table1", SETTINGS, fill_table(layout), tmp_path / name)
    again = fill_table(layout, read_published(tmp_path / "first").read)
    publish("table1", SETTINGS, again, tmp_path / "third")
    for file in (RUNS, DOCUMENTS):
        assert len({(tmp_path / n / file).read_bytes() for n in ("first", "second", "third")}) == 1


def test_every_document_has_a_line(made, tmp_path):
    run = made.run(data="magicoder", benchmarks=("humaneval", "held_out"))
    made.finish(run, {"humaneval": [1.0, 0.0, 1.0], "held_out": [0.25, 3.5]})
    publish("x", (), fill_table(build_layout([run], [])), tmp_path)
    with gzip.open(tmp_path / DOCUMENTS, "rt") as file:
        header, *lines = list(csv.reader(file))
    assert tuple(header) == FIELDS
    assert lines == [
        [run.key, name, "0", str(i), "", value, "1"]
        for name, values in (("humaneval", "101"), ("held_out", ("0.25", "3.5")))
        for i, value in enumerate(values)
    ]


def test_groups_and_several_parts_come_back(made, tmp_path, monkeypatch):
    from alps.evals.harness.benchmark import DocumentMetric, HarnessTask
    from alps.evals.statistics import Ratio, point_estimate

    parts = [Ratio([1, 0, 1, 1], [2, 1, 3, 1]), Ratio([0, 0, 1, 0])]
    measure = DocumentMetric(parts, groups=["law", "law", "art", "art"])
    monkeypatch.setattr(
        HarnessTask, "document_metrics", lambda self, samples: {"accuracy": measure}
    )
    monkeypatch.setattr("alps.report.outcomes.TOLERANCE", 2.0)  # the file has another headline
    run = made.run()
    made.finish(run, {"gsm8k": [1.0, 0.0, 1.0, 1.0]})
    layout = build_layout([run], [])
    before = fill_table(layout)
    publish("x", (), before, tmp_path)
    again = fill_table(layout, read_published(tmp_path).read)
    assert again.cells == before.cells
    (outcome,) = again.outcomes[0]
    documents = outcome.score("gsm8k").documents
    assert documents.groups == ["law", "law", "art", "art"] and len(documents.ratios) == 2
    assert point_estimate(*documents.ratios, groups=documents.groups) == point_estimate(
        *parts, groups=measure.groups
    )


def test_a_later_key_or_field_does_not_hide_a_run(made, layout, tmp_path):
    before = fill_table(layout)
    publish("table1", (), before, tmp_path)
    plain = json.loads((tmp_path / RUNS).read_text())
    for record in plain["runs"]:
        if record["result"]:
            record["result"]["of_a_later_version"] = 1
    (tmp_path / RUNS).write_text(json.dumps(plain))
    reader = read_published(tmp_path).read
    run = next(iter(layout.rows[1].runs.values()))[0]
    from dataclasses import replace

    renamed = replace(run, optim=replace(run.optim, lr=1.0))
    assert renamed.key != run.key and reader(layout.rows[1], renamed).key == run.key


def test_a_run_that_was_not_published_is_missing(made, layout, tmp_path):
    publish("table1", (), fill_table(layout), tmp_path)
    reader = read_published(tmp_path).read
    subject = reader(layout.rows[1], made.run("full", seed=9))
    assert subject.gap.trouble == "missing" and subject.score("gsm8k") is subject.gap


@pytest.mark.parametrize("file", [RUNS, DOCUMENTS])
def test_missing_and_damaged_files_are_one_sentence(file, layout, tmp_path):
    publish("table1", (), fill_table(layout), tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        read_published(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=f"holds no published table .{file} is missing"):
        read_published(tmp_path)


def test_documents_of_a_score_that_are_gone_are_told(layout, tmp_path):
    publish("table1", (), fill_table(layout), tmp_path)
    (tmp_path / DOCUMENTS).write_bytes(gzip.compress((",".join(FIELDS) + "\n").encode()))
    with pytest.raises(ValueError, match=f"{DOCUMENTS} has no documents of a score in {RUNS}"):
        fill_table(layout, read_published(tmp_path).read)


def test_a_benchmark_that_leaves_no_documents_says_so(tmp_path):
    class Silent(Benchmark):
        def evaluate(self, subject):
            return None

    assert Silent(name="x", protocol="plain").document_scores(tmp_path) is None


def test_fields_of_a_later_version_are_passed_over(layout, tmp_path):
    before = fill_table(layout)
    publish("x", (), before, tmp_path)
    plain = json.loads((tmp_path / RUNS).read_text())
    for record in plain["runs"]:
        scores = record["scores"].values()
        for kept in (record["result"], record["gap"], *scores, *(s.get("gap") for s in scores)):
            if kept:
                kept["later"] = 1
    (tmp_path / RUNS).write_text(json.dumps(plain))
    assert texts(fill_table(layout, read_published(tmp_path).read)) == texts(before)


@pytest.mark.parametrize("lost", ["result", "scores", "key"])
def test_a_record_without_one_of_its_parts_is_one_sentence(layout, tmp_path, lost):
    publish("x", (), fill_table(layout), tmp_path)
    plain = json.loads((tmp_path / RUNS).read_text())
    del plain["runs"][0][lost]
    (tmp_path / RUNS).write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=f"cannot be read .*{lost}"):
        read_published(tmp_path)
