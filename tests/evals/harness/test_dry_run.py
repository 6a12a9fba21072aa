"""What is wrong with a benchmark of one's own is told before anything trains."""

import json
from dataclasses import replace

import pytest

from alps.evals.harness import run as harness_run
from alps.evals.harness import task_config as harness_task_config
from alps.evals.harness.benchmark import HarnessTask
from alps.evals.harness.documents import Split

ROWS = [{"question": f"Question {n}?", "answer": str(n)} for n in range(4)]
TASK = """
task: own
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["."], do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - {name: first, filter: [{function: take_first}]}
"""


SPLIT = Split(path="test.jsonl", hub_files=(), num_rows=4)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A benchmark of one's own: its task file and rows, changed as told."""
    tasks, documents = tmp_path / "tasks", tmp_path / "documents"
    tasks.mkdir(), documents.mkdir()
    monkeypatch.setattr(harness_task_config, "ALPS_TASKS", tasks)

    def make(task: str = TASK, shots: list | None = None, **changes) -> HarnessTask:
        (tasks / "own.yaml").write_text(task)
        splits = {}
        for name, rows in {"test": ROWS, "shots": shots}.items():
            if rows is not None:
                (documents / f"{name}.jsonl").write_text(
                    "".join(json.dumps(row) + "\n" for row in rows)
                )
                splits[name] = Split(path=f"{name}.jsonl", hub_files=(), num_rows=len(rows))
        settings = {
            "name": "own",
            "protocol": "alpaca",
            "changes": "own.yaml",
            "metrics": {"accuracy": "exact_match,first"},
            "splits": splits,
            "columns": ("question", "answer"),
        }
        return HarnessTask(**{**settings, **changes})

    return make


@pytest.mark.parametrize("protocol", ["alpaca", "plain", "meta"])
def test_a_good_one_is_tried_in_silence(own, tmp_path, caplog, protocol):
    benchmark = own(protocol=protocol)
    benchmark.ready(tmp_path / "documents")
    benchmark.dry_run(tmp_path / "documents")
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"metrics": {"accuracy": "exact_mach,first"}},
            r"metrics.accuracy of benchmark own: the task computes no 'exact_mach', did you mean "
            r"'exact_match'\?",
        ),
        (
            {"metrics": {"accuracy": "exact_match,firsst"}},
            r"metrics.accuracy .* a filter of the task, did you mean 'first'\?",
        ),
        (
            {"metrics": {"accuracy": "exact_match"}},
            r"'exact_match' must name a metric and, behind a comma, a filter of the task \(one of",
        ),
        (
            {"changes": "owwn.yaml"},
            r"the task file of benchmark own, .*owwn.yaml, does not exist, did you mean 'own.yaml'",
        ),
        (
            {"config": "gsm8k/gsm8k-cot-lama.yaml"},
            "does not exist, did you mean 'gsm8k/gsm8k-cot-l",
        ),
        ({"splits": {}}, "benchmark own needs splits.test, where the documents are"),
        ({"splits": {"tset": SPLIT}}, "benchmark own has splits.tset, did you mean 'test'"),
        ({"num_fewshot": 3}, "benchmark own has num_fewshot=3 but nothing to show: its examples"),
        ({"shots": ROWS[:2], "num_fewshot": 3}, "own has num_fewshot=3 but 2 examples to show"),
    ],
)
def test_settings_that_the_task_does_not_know(own, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        own(**changes).dry_run(tmp_path / "documents")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            "aggregation: mean",
            "aggregation: median",
            "sums exact_match up by median, but only means",
        ),
        ("aggregation: mean", "aggregation: nanmean", "sums exact_match up by nanmean, but only"),
        ("aggregation: mean", "aggregation: men", "cannot be evaluated"),
        ("metric: exact_match", "metric: exact_mach", "benchmark own"),
        ("{{question}}", "{{quest}}", "cannot be evaluated .*'quest' is undefined"),
        ("generation_kwargs", "generation_kwarg", "generation_kwarg is no key of a task, did you"),
        ("take_first", "take_firsst", "cannot be evaluated .*take_firsst"),
        ("task: own", "task: [own, other]", "is a group of tasks: name one of them"),
        ("task: own", "group: own", "is a group of tasks: name one of them"),
        ("task: own", "task: [own", "own.yaml, the task file of benchmark own: "),
        (
            "task: own",
            "process_docs: !function no_such_module.f",
            "own.yaml, the task file of benchmark own: Cannot import module 'no_such_module'",
        ),
        (
            "task: own",
            "process_docs: !function alps.evals.harness.gpqa.shufled",
            "has no function 'shufled'",
        ),
        ("generate_until", "generate_till", "cannot be evaluated .*generate_till"),
        ("task: own", "unsafe_code: true", "executes what a model wrote, which is not supported"),
        ('"{{question}}"', "quesion", "asks the same for different documents"),
        (
            '"{{answer}}"',
            "anwser",
            "anwser in its .* did you mean 'answer'",
        ),
        (
            "do_sample: false",
            "tempratur: 1",
            "transformers knows no generation setting tempratur",
        ),
        ('["."]', "[3]", r"until of own must be texts, got \[3\]"),
        ("do_sample: false", "num_return_sequences: 2", "one answer to a prompt"),
    ],
)
def test_task_files_that_cannot_be_used(own, tmp_path, before, after, sentence):
    assert TASK.count(before) == 1
    with pytest.raises(ValueError, match=sentence) as refusal:
        own(TASK.replace(before, after)).dry_run(tmp_path / "documents")
    assert "own" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_metric_that_is_no_number_of_each_document(own, tmp_path):
    """f1 of multiple choice is computed from all documents together."""
    task = (
        TASK.replace("generate_until", "multiple_choice")
        .replace("exact_match, aggregation: mean", "f1, aggregation: f1")
        .replace("generation_kwargs: ", "metadata: ")
        + 'doc_to_choice: ["0", "1", "2", "3"]\n'
    )
    with pytest.raises(ValueError, match="sums f1 up by f1_score, but only means over documents"):
        own(task, metrics={"f1": "f1,first"}).dry_run(tmp_path / "documents")


def test_worked_examples_never_are_the_documents_that_are_asked(own, tmp_path):
    documents = tmp_path / "documents"
    with pytest.raises(ValueError, match="shots of benchmark own holds documents that are asked"):
        own(shots=ROWS[1:3], num_fewshot=2).ready(documents)
    other = [{"question": f"Other {n}?", "answer": str(n)} for n in range(3)]
    for benchmark in (own(shots=other, num_fewshot=3), own(num_fewshot=0)):
        benchmark.ready(documents)
        benchmark.dry_run(documents)


def test_fixed_examples_need_no_split(own, tmp_path, ask):
    samples = 'fewshot_config: {samples: [{question: "Shown?", answer: "9"}], split: train}\n'
    benchmark = own(TASK + samples, num_fewshot=1)
    benchmark.dry_run(tmp_path / "documents")
    prompts = ask(benchmark, lambda request: "0").prompts
    assert all(p.count("Shown?") == 1 and p.count("Question") == 1 for p in prompts)


def test_how_many_examples_are_asked_too_is_recorded(own, ask):
    """In MMLU as published one is."""
    other = {"question": "Other?", "answer": "1"}
    benchmark = own(shots=[ROWS[0], other], num_fewshot=1)
    assert ask(benchmark, lambda request: "0").card.details["shots_asked"] == 1


def test_warnings_of_the_harness_are_told_once(own, tmp_path, caplog):
    harness_run._warn_once.cache_clear()
    benchmark = own(TASK.replace(", higher_is_better: true", ""))
    for _ in range(2):
        benchmark.dry_run(tmp_path / "documents")
    [warning] = caplog.records
    assert warning.levelname == "WARNING" and warning.name == "alps.evals.harness.run"
    assert warning.getMessage().startswith("own: [Task: own] metric exact_match is defined, but")


def test_a_wrong_benchmark_is_refused_before_anything_trains(own, tmp_path, make_run):
    from alps.pipeline.preflight import check

    run = make_run(f"evals.data_dir={tmp_path / 'documents'}")
    for benchmark, sentence in (
        (own(metrics={"a": "exact_mach,first"}), "the task computes no 'exact_mach'"),
        (own(num_fewshot=1), "num_fewshot=1 but nothing to show"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check(replace(run, evals=replace(run.evals, benchmarks=(benchmark,))))
    assert not (tmp_path / "outputs").exists()
