from pathlib import Path

import pytest

LETTERS = "ABCD"


def row(subject, number, answer):
    question = f"{subject} question {number}?"
    return {"question": question, "subject": subject, "choices": list("wxyz"), "answer": answer}


SHOTS = [row(s, 100 + n, n % 4) for s in ("anatomy", "world_religions") for n in range(5)]
# `anatomy` is asked four times, `world_religions` once.
TEST = [row("anatomy", n, n % 4) for n in range(4)] + [row("world_religions", 0, 1)]


def always(letter):
    return lambda request: 0 if request.args[1].strip() == letter else -1


def test_macro_average_counts_subjects(make_benchmark, ask):
    asked = ask(make_benchmark("mmlu", test=TEST, shots=SHOTS), always("B"))
    assert list(asked.card.metrics) == ["macro_accuracy", "micro_accuracy"]
    assert asked.card.metrics["macro_accuracy"] == (1 / 4 + 1) / 2
    assert asked.card.metrics["micro_accuracy"] == 2 / 5
    assert asked.card.details["subjects"] == {
        "anatomy": {"accuracy": 0.25, "num_documents": 4},
        "world_religions": {"accuracy": 1.0, "num_documents": 1},
    }
    assert asked.card.details["num_subjects"] == 2
    assert set(asked.card.uncertainty) == {"micro_accuracy"}  # one question has no spread


def test_right_and_wrong(make_benchmark, ask):
    benchmark = make_benchmark("mmlu", test=TEST, shots=SHOTS)
    answers = {r["question"]: LETTERS[r["answer"]] for r in TEST}

    def right(request):
        question = request.args[0].rpartition("\nA. w")[0].rpartition("\n")[2]
        return 0 if request.args[1].strip() == answers[question] else -1

    assert ask(benchmark, right).card.metrics["macro_accuracy"] == 1
    wrong = ask(benchmark, lambda r: -1 - right(r), name="wrong")
    assert wrong.card.metrics["macro_accuracy"] == 0


def test_prompts_are_the_harnesss_own(make_benchmark, ask):
    """Plain prompts of a subject equal those of the harness's task for that subject."""
    import lm_eval
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    from alps.evals.harness.lm_eval_internals import load_task_file

    benchmark = make_benchmark("mmlu", "protocol=plain", test=TEST, shots=SHOTS)
    ours = ask(benchmark, always("A")).requests
    folder = Path(lm_eval.__file__).parent / "tasks/mmlu/default"
    for subject in ("anatomy", "world_religions"):
        spec = load_task_file(folder / f"mmlu_{subject}.yaml")
        rows = {
            split: Dataset.from_list([r for r in given if r["subject"] == subject])
            for split, given in (("test", TEST), ("dev", SHOTS))
        }
        spec |= {"custom_dataset": lambda rows=rows, **_: rows, "num_fewshot": 5}
        task = ConfigurableTask(config=spec)
        task.build_all_requests(rank=0, world_size=1)
        theirs = [request.args for request in task.instances]
        assert [r.args for r in ours if r.task_name == f"mmlu_{subject}"] == theirs


def test_descriptions_of_all_subjects_follow_from_their_names():
    import lm_eval

    from alps.evals.harness.lm_eval_internals import load_task_file

    folder = Path(lm_eval.__file__).parent / "tasks/mmlu/default"
    specs = [load_task_file(path) for path in folder.glob("mmlu_*.yaml")]
    assert len(specs) == 57
    for spec in specs:
        words = spec["dataset_name"].replace("_", " ")
        ours = f"The following are multiple choice questions (with answers) about {words}.\n\n"
        assert spec["description"] == ours


@pytest.mark.parametrize("protocol", ["alpaca", "meta"])
def test_prompts_in_a_template(make_benchmark, ask, protocol):
    benchmark = make_benchmark("mmlu", f"protocol={protocol}", test=TEST, shots=SHOTS)
    prompt, choice = ask(benchmark, always("A")).requests[-1].args
    assert choice == "D" and prompt.count("Answer:") == 6
    about = "The following are multiple choice questions (with answers) about world religions."
    if protocol == "alpaca":
        assert f"### Instruction:\n{about}\n\nworld_religions question 100?" in prompt
        assert "Answer: A\n\nworld_religions question 101?" in prompt
        assert prompt.endswith("D. z\nAnswer:\n\n### Response:\n")
    else:
        assert prompt.startswith(f"[system] {about}\n[user] world_religions question 100?")
        assert prompt.count("[user] ") == 6 and prompt.endswith("Answer:\n[assistant] ")


def test_a_limit_goes_round_the_subjects(make_benchmark, ask):
    benchmark = make_benchmark("mmlu", "limit=3", test=TEST, shots=SHOTS)
    asked = ask(benchmark, always("A"))
    documents = list(dict.fromkeys(request.doc["question"] for request in asked.requests))
    assert sorted(documents) == [
        "anatomy question 0?",
        "anatomy question 1?",
        "world_religions question 0?",
    ]


def test_its_samples_give_the_score_again(make_benchmark, ask):
    from alps.evals.harness.samples import rescore

    benchmark = make_benchmark("mmlu", test=TEST, shots=SHOTS)
    asked = ask(benchmark, always("B"))
    assert rescore(benchmark, asked.folder) == asked.card.metrics


def test_a_subject_without_shots_is_refused(make_benchmark, ask):
    benchmark = make_benchmark("mmlu", test=TEST, shots=SHOTS[:7])
    with pytest.raises(ValueError, match="subject world_religions has 2 rows to show, not 5"):
        ask(benchmark, always("A"))


def test_validation_questions_have_a_name_of_their_own(make_benchmark):
    benchmark = make_benchmark("mmlu_val")
    assert benchmark.name == "mmlu_val" and benchmark.splits["test"].num_rows == 1531
    assert benchmark.splits["shots"] == make_benchmark("mmlu").splits["shots"]
