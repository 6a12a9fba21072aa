import csv
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alps.evals.engine.language_model import language_model
from alps.evals.harness.benchmark import HarnessTask
from alps.models.byte_tokenizer import byte_tokenizer

PROBLEMS = [
    {"question": f"Problem {n}?", "answer": f"Some steps.\n#### {answer}"}
    for n, answer in enumerate(("18", "1,000", "-3", "7"))
]
SAID = {
    "Problem 0?": "16 + 2 = 18. The final answer is 18",
    "Problem 1?": "It costs 1000. The final answer is $1,000.",
    "Problem 2?": "That makes -3, I think",  # right, but not as asked
    "Problem 3?": "The final answer is 8",
}
ARC = [
    {
        "question": "Which one?",
        "choices": {"text": ["red", "a long green", "blue"], "label": ["A", "B", "C"]},
        "answerKey": "C",
    },
    {
        "question": "Which other one?",
        "choices": {"text": ["one", "two", "three", "four"], "label": ["1", "2", "3", "4"]},
        "answerKey": "2",
    },
]
GPQA = [
    {"Question": f"Question {n}?", "Correct Answer": f"right {n}"}
    | {f"Incorrect Answer {i}": f"wrong {n} {i}" for i in (1, 2, 3)}
    for n in range(8)
]


REAL = ("gsm8k", "ifeval", "mmlu_val", "mmlu", "arc_challenge", "gpqa", "math", "math500")


def say(request):
    asked = request.args[0].rpartition("Problem: ")[2].partition("\n")[0]
    return SAID[asked]


def test_gsm8k_reads_both_ways(make_benchmark, ask):
    asked = ask(make_benchmark("gsm8k", test=PROBLEMS), say)
    assert list(asked.card.metrics.items()) == [("strict_match", 0.5), ("flexible_extract", 0.75)]
    assert asked.card.num_documents == 4 and asked.card.details["num_fewshot"] == 8
    assert asked.card.uncertainty["strict_match"].stderr == pytest.approx(0.5 / 3**0.5)
    options = asked.requests[0].args[1]
    assert options["max_gen_toks"] == 512 and "Given the following problem" in options["until"]


@pytest.mark.parametrize("protocol", ["alpaca", "plain", "meta"])
def test_prompts_of_every_protocol_hold_eight_shots(make_benchmark, ask, protocol):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = f"{tokenizer.bos_token}{tokenizer.chat_template}"
    benchmark = make_benchmark("gsm8k", f"protocol={protocol}", test=PROBLEMS)
    prompt = ask(benchmark, say, tokenizer).prompts[0]
    assert prompt.count("Given the following problem") == 9
    assert prompt.count("The final answer is ") == 8 + 9  # answers, and what each question asks for
    if protocol == "alpaca":
        assert prompt.startswith("Below is an instruction that describes a task.")
        assert prompt.count("### Instruction:") == prompt.count("### Response:") == 1
        assert prompt.endswith("### Response:\n") and "<s>" not in prompt
    elif protocol == "plain":
        assert prompt.startswith("Given the following problem") and "###" not in prompt
        assert prompt.endswith("to the problem.\n") and "<s>" not in prompt
    else:
        assert prompt.startswith("<s>[user] Given") and prompt.count("<s>") == 1
        assert prompt.count("[user] ") == prompt.count("[assistant] ") == 9


def test_samples_are_lm_evals_and_give_the_score_again(make_benchmark, ask):
    from alps.evals.harness.samples import read_samples, rescore

    benchmark = make_benchmark("gsm8k", test=PROBLEMS)
    asked = ask(benchmark, say)
    path = asked.folder / "samples_gsm8k.jsonl"
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert samples == list(read_samples(asked.folder, "gsm8k")) and len(samples) == 8
    assert {s["filter"] for s in samples} == {"strict-match", "flexible-extract"}
    assert [s["doc_id"] for s in samples if s["filter"] == "strict-match"] == [0, 1, 2, 3]
    assert samples[0]["doc"] == PROBLEMS[0] and samples[0]["resps"] == [[SAID["Problem 0?"]]]
    assert samples[0]["arguments"]["gen_args_0"]["arg_0"] == asked.prompts[0]
    assert rescore(benchmark, asked.folder) == asked.card.metrics
    changed = path.read_text().replace("The final answer is 8", "The final answer is 7")
    path.write_text(changed)
    assert rescore(benchmark, asked.folder)["strict_match"] == 0.75


def test_many_samples_are_compressed(make_benchmark, ask, monkeypatch):
    from alps.evals.harness import samples as harness_samples

    benchmark = make_benchmark("gsm8k", test=PROBLEMS)
    asked = ask(benchmark, say)
    plain = list(harness_samples.read_samples(asked.folder, "gsm8k"))
    monkeypatch.setattr(harness_samples, "COMPRESS_FROM", 8)
    again = ask(benchmark, say, name="again")
    (packed,) = again.folder.glob("samples*")
    assert packed.name == "samples_gsm8k.jsonl.gz"
    assert packed.read_bytes()[4:8] == bytes(4), "no time in it: the same samples, the same bytes"
    assert list(harness_samples.read_samples(again.folder, "gsm8k")) == plain
    with pytest.raises(ValueError, match="has no samples of arc: evaluate again"):
        list(harness_samples.read_samples(again.folder, "arc"))


def test_arc_with_letters_and_numbers(make_benchmark, ask):
    """The likelihood of the text decides: the second metric counts it per character."""
    likely = {"red": -6, "a long green": -12, "blue": -5, "one": -9, "two": -2, "three": -9}
    asked = ask(
        make_benchmark("arc_challenge", test=ARC), lambda r: likely.get(r.args[1].strip(), -9)
    )
    assert asked.card.metrics == {"accuracy": 1.0, "accuracy_by_length": 0.5}
    prompt, choice = asked.requests[0].args
    assert prompt.endswith("### Instruction:\nQuestion: Which one?\nAnswer:\n\n### Response:\n")
    assert choice == "red"  # behind the template's line break; plain text has a space between
    plain = make_benchmark("arc_challenge", "protocol=plain", test=ARC)
    request = ask(plain, lambda r: -1, name="plain").requests[0]
    assert request.args == ("Question: Which one?\nAnswer:", " red")


def test_choices_are_scored_behind_the_prompt_of_the_training(
    make_benchmark, make_subject, tmp_path
):
    """The tokenizer has ":" with the line break behind it as one token, as Llama-3's has."""
    from alps.data.encoding.encode import encode_example
    from alps.data.example import Example
    from alps.evals.harness.samples import read_samples

    subject = replace(make_subject("merges"), data_dir=tmp_path / "documents")
    benchmark = make_benchmark("arc_challenge", test=ARC)
    card = benchmark.evaluate(subject)
    assert card.details["num_truncated_prompts"] == 0 and card.details["context_length"] == 2048
    samples = list(read_samples(subject.folder, "arc_challenge"))
    for sample, document in zip(samples, ARC, strict=True):
        question = f"Question: {document['question']}\nAnswer:"
        for n, choice in enumerate(document["choices"]["text"]):
            context, written = sample["arguments"][f"gen_args_{n}"].values()
            assert context.endswith("### Response:\n") and written == choice
            row = encode_example(
                Example(instruction=question, answer=choice), subject.tokenizer, "alpaca"
            )
            with torch.no_grad():
                likely = subject.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            places = range(row.answer_start, len(row.ids) - 1)
            expected = sum(float(likely[p - 1, row.ids[p]]) for p in places)
            assert float(sample["resps"][n][0][0]) == pytest.approx(expected, abs=1e-4)


def test_how_answers_were_generated_is_in_the_details(make_benchmark, make_subject, tmp_path):
    subject = replace(make_subject(), data_dir=tmp_path / "documents")
    benchmark = make_benchmark("gsm8k", "max_new_tokens=4", test=PROBLEMS[:2])
    subject.model.config.max_position_embeddings = 100
    details = benchmark.evaluate(subject).details
    assert details["num_truncated_prompts"] == 2 and details["context_length"] == 100
    used = details["decoding"]
    assert (used["do_sample"], used["max_new_tokens"]) == (False, 4)
    assert used["end_token_ids"] == [subject.tokenizer.eos_token_id]
    assert "Given the following problem" in used["stop"]


def test_an_answer_that_is_no_choice_is_refused(make_benchmark, ask):
    broken = [ARC[0], {**ARC[1], "answerKey": "5"}]
    with pytest.raises(ValueError, match="document 2 of arc_challenge: the right answer is none"):
        ask(make_benchmark("arc_challenge", test=broken), lambda r: -1)


def right_letter(request):
    question = request.args[0]
    number = question.partition("Question ")[2].partition("?")[0]
    letter = question.partition(f") right {number}\n")[0][-1]
    return 0 if request.args[1].strip() == f"({letter})" else -1


def test_gpqa_asks_and_judges_in_one_order(make_benchmark, ask):
    benchmark = make_benchmark("gpqa", test=GPQA)
    random.seed(1)
    first = ask(benchmark, right_letter)
    assert first.card.metrics == {"accuracy": 1.0}
    random.seed(2)
    second = ask(benchmark, right_letter, name="again")
    assert first.prompts == second.prompts
    prompt = first.prompts[0]
    assert "What is the correct answer to this question:Question 0?\nChoices:\n(A) " in prompt
    letters = {p.partition(") right")[0][-1] for p in first.prompts}
    assert len(letters) > 1, "the right one has no fixed place"
    wrong = ask(benchmark, lambda r: -1 - right_letter(r), name="wrong")
    assert wrong.card.metrics == {"accuracy": 0.0}


def test_gpqa_as_it_is_published(make_benchmark, ask, tmp_path):
    """A CSV file with columns that nobody asks for, and line breaks inside of questions."""
    rows = [{**row, "Question": f"Some text,\n{row['Question']}", "Notes": "a"} for row in GPQA]
    benchmark = make_benchmark("gpqa")
    (tmp_path / "documents/gpqa").mkdir(parents=True)
    with (tmp_path / "documents/gpqa/gpqa_main.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    split = replace(benchmark.splits["test"], num_rows=8)
    asked = ask(replace(benchmark, splits={"test": split}), right_letter)
    assert asked.card.metrics == {"accuracy": 1.0} and "Notes" not in asked.requests[0].doc


def test_gpqa_gives_its_score_again(make_benchmark, ask):
    from alps.evals.harness.samples import rescore

    benchmark = make_benchmark("gpqa", test=GPQA)
    asked = ask(benchmark, right_letter)
    assert rescore(benchmark, asked.folder) == asked.card.metrics


def test_random_numbers_go_on_as_if_nothing_had_been(make_benchmark, ask):
    benchmark = make_benchmark("gpqa", test=GPQA)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(4321)
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    ask(benchmark, right_letter)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_it_says_nothing(make_benchmark, ask, capfd, caplog):
    ask(make_benchmark("gsm8k", test=PROBLEMS), say)
    assert capfd.readouterr().err == "" and not caplog.records


def test_limit_takes_the_first(make_benchmark, ask):
    asked = ask(make_benchmark("gsm8k", "limit=2", test=PROBLEMS), say)
    assert asked.card.num_documents == len(asked.requests) == 2
    assert asked.card.metrics["strict_match"] == 1.0


def test_fewer_documents_than_processes_are_refused(make_benchmark):
    from alps.evals.harness.run import run_task

    class Two:
        world_size = 2

    with pytest.raises(ValueError, match=r"gsm8k has 1 documents for 2 processes: raise evals"):
        run_task(make_benchmark("gsm8k", test=PROBLEMS), {"test": PROBLEMS[:1]}, Two())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r"gsm8k needs .*test.jsonl, which does not exist: copy it there, or set evals"),
        (json.dumps(PROBLEMS[0]), r"test.jsonl has 1 rows, but gsm8k has 4: it is truncated"),
        ('{"question": "a", "ans', r"row 1 of .*test.jsonl is not"),
        ('{"question": "a"}', r"row 1 of .*test.jsonl has no answer: it is damaged or another"),
    ],
)
def test_files_that_are_not_what_they_should_be(make_benchmark, tmp_path, content, problem):
    benchmark = make_benchmark("gsm8k", test=PROBLEMS)
    path = tmp_path / "documents" / "test.jsonl"
    benchmark.ready(path.parent)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=problem):
        benchmark.ready(path.parent)


def test_columns_of_mixed_types_are_refused(make_benchmark, ask):
    rows = [PROBLEMS[0], {"question": {"a": 1}, "answer": "b"}]
    with pytest.raises(ValueError, match="rows of gsm8k differ in type"):
        ask(make_benchmark("gsm8k", test=rows), say)


def test_hub_files_at_the_pinned_revision(make_benchmark, tmp_path, monkeypatch):
    benchmark = make_benchmark("gsm8k", test=PROBLEMS)
    (tmp_path / "hub" / "main").mkdir(parents=True)
    rows = "".join(json.dumps(row) + "\n" for row in PROBLEMS)
    (tmp_path / "hub/main/test-0.jsonl").write_text(rows)
    calls = []

    def snapshot(repo, **options):
        calls.append((repo, options["revision"], options["allow_patterns"]))
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert benchmark.fetch(None) == "4 documents in openai/gsm8k"
    assert calls == [("openai/gsm8k", benchmark.revision, ["main/test-*"])]
    assert benchmark.fingerprint(None) == f"openai/gsm8k@{benchmark.revision}"


def test_without_hub_and_files_the_way_out_is_told(make_benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    match = "documents of gsm8k, cannot be downloaded .* or set evals.data_dir to a folder"
    with pytest.raises(ValueError, match=match):
        make_benchmark("gsm8k").ready(None)


def test_fingerprint_follows_the_content(make_benchmark, tmp_path):
    folder = tmp_path / "documents"
    before = make_benchmark("gsm8k", test=PROBLEMS).fingerprint(folder)
    after = make_benchmark("gsm8k", test=PROBLEMS[::-1]).fingerprint(folder)
    assert before and after and before != after
    assert make_benchmark("gsm8k").fingerprint(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"protocol": "answer_tokens"},
            "benchmark gsm8k asks: its protocol is alpaca, plain or meta",
        ),
        ({"metrics": {}}, "benchmark gsm8k has no metrics"),
        ({"config": None, "changes": None}, "benchmark gsm8k names no task: set config or changes"),
        ({"num_fewshot": -1}, "num_fewshot of benchmark gsm8k must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens of benchmark gsm8k must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used_are_told(make_benchmark, changes, problem):
    benchmark = make_benchmark("gsm8k")
    assert list(replace(benchmark, **changes).problems()) == [problem]
    assert not list(benchmark.problems())


def test_another_harness_is_refused(make_benchmark, monkeypatch):
    monkeypatch.setattr("alps.evals.harness.benchmark.version", lambda name: "0.5.0")
    with pytest.raises(ValueError, match=r"needs lm-eval 0.4.13, found 0.5.0"):
        make_benchmark("gsm8k").ready(None)


def test_a_missing_package_is_refused(make_benchmark, monkeypatch):
    monkeypatch.setattr(
        "alps.evals.harness.benchmark.find_spec", lambda name: None if name == "math_verify" else 1
    )
    with pytest.raises(ValueError, match=r"math needs math-verify: run `pip install math-verify`"):
        make_benchmark("math").ready(None)


@pytest.mark.skipif("ALPS_DATA_DIR" not in os.environ, reason="needs ALPS_DATA_DIR")
@pytest.mark.parametrize("name", REAL)
def test_real_rows(name, make_run, tmp_path):
    """Two documents of each benchmark whose files are there, on a model with random weights."""
    from alps.evals.context import EvaluationContext
    from alps.evals.harness.samples import rescore
    from alps.models.checkpoint import materialize
    from alps.models.load import load_model, load_tokenizer

    run = make_run(f"+evals/benchmark@evals.benchmarks.x={name}", "evals.benchmarks.x.limit=2")
    (benchmark,) = run.evals.benchmarks
    data_dir = Path(os.environ["ALPS_DATA_DIR"])
    assert isinstance(benchmark, HarnessTask)
    if benchmark.max_new_tokens:
        benchmark = replace(benchmark, max_new_tokens=8)
    try:
        benchmark.ready(data_dir)
    except ValueError as error:
        pytest.skip(str(error))
    base = materialize(run.model)
    subject = EvaluationContext(
        build_language_model=language_model,
        model=load_model(base).eval(),
        tokenizer=load_tokenizer(base),
        data=run.data,
        batch_size=2,
        folder=tmp_path / "answers",
        weights="tiny",
        data_dir=data_dir,
    )
    subject.folder.mkdir()
    card = benchmark.evaluate(subject)
    assert card is not None and card.num_documents == 2
    assert rescore(benchmark, subject.folder) == card.metrics
