from itertools import islice

import pytest

from alps.data.generators import mini_general, mini_math

MODULES = {"mini_math": mini_math, "mini_general": mini_general}
METRICS = {
    "mini_math": ["exact_match"],
    "mini_general": ["prompt_accuracy", "constraint_accuracy"],
}


@pytest.mark.parametrize("name", MODULES)
def test_reference_answers_are_right_and_nonsense_is_not(make_benchmark, ask, name):
    benchmark = make_benchmark(name, "limit=12", "max_new_tokens=72")
    examples = list(islice(MODULES[name].examples("test"), 12))
    answers = {e.instruction: e.answer for e in examples}

    def right(request):
        return answers[request.args[0].partition("### Instruction:\n")[2].partition("\n\n###")[0]]

    asked = ask(benchmark, right)
    assert list(asked.card.metrics) == METRICS[name]
    assert set(asked.card.metrics.values()) == {1.0} and asked.card.num_documents == 12
    assert asked.requests[0].args[1]["max_gen_toks"] == 72
    wrong = ask(benchmark, lambda request: " ", name="wrong")
    assert set(wrong.card.metrics.values()) == {0.0}


def test_some_constraints_kept(make_benchmark, ask):
    """Constraint accuracy is the mean over prompts of the share that is kept."""
    from alps.evals.mini.check_general import constraint_results

    asked = ask(make_benchmark("mini_general", "limit=20"), lambda request: "A word.")
    checks = [e.check for e in islice(mini_general.examples("test"), 20)]
    kept = [constraint_results("A word.", check) for check in checks]
    shares = [sum(each) / len(each) for each in kept]
    assert 0 < sum(shares) < 20
    assert asked.card.metrics["constraint_accuracy"] == pytest.approx(sum(shares) / 20)
    assert asked.card.metrics["prompt_accuracy"] == sum(map(all, kept)) / 20


@pytest.mark.parametrize("name", MODULES)
def test_its_samples_give_the_score_again(make_benchmark, ask, name):
    from alps.evals.harness.samples import rescore

    benchmark = make_benchmark(name, "limit=5")
    answer = next(MODULES[name].examples("test")).answer
    asked = ask(benchmark, lambda request: answer)
    assert 0 < asked.card.metrics[METRICS[name][0]] < 1
    assert rescore(benchmark, asked.folder) == asked.card.metrics


def test_nothing_is_needed_from_elsewhere(make_benchmark):
    benchmark = make_benchmark("mini_math")
    benchmark.ready(None)
    assert benchmark.fetch(None) is None
    assert benchmark.fingerprint(None) == f"mini_math-v{mini_math.VERSION}"
    assert benchmark.limit == 100 and benchmark.max_new_tokens == 96


def test_the_task_files_work_with_lm_eval_alone():
    from lm_eval.tasks import TaskManager

    from alps.evals.harness.task_config import ALPS_TASKS

    manager = TaskManager(include_defaults=False, include_path=ALPS_TASKS)
    names = ["alps_mini_math", "alps_mini_general"]
    tasks = manager.load(names)["tasks"]
    sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
    assert sizes == {"alps_mini_math": mini_math.NUM_TEST, "alps_mini_general": 400}
    document = tasks["alps_mini_math"].eval_docs[0]
    assert tasks["alps_mini_math"].process_results(document, [document["answer"]]) == {
        "exact_match": 1.0
    }
