import json
from itertools import islice

import pytest

from alps.data.generators import mini_code
from alps.data.template import ALPACA
from alps.evals.engine.language_model import language_model
from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.problems import subset
from alps.evals.evalplus.prompts import extract_program
from alps.evals.evalplus.scoring import score
from alps.evals.mini.code_benchmark import MiniCode, to_problem

MINI = MiniCode(name="mini_code", protocol="alpaca", task="code", limit=5)
CHECK = {"entry_point": "double", "tests": [[[2], 4], [[0], 0]]}
RIGHT = "def double(x):\n    return x * 2\n"


def answered(benchmark, answer):
    """What the benchmark makes of an answer, as far as the judge."""
    return extract_program(benchmark.protocol, "", answer, benchmark.stop_sequences())


@pytest.mark.sandbox
def test_reference_answers_are_right_and_nonsense_is_not(tmp_path):
    examples = list(islice(mini_code.examples("test"), 5))
    problem_set = MINI.load_problems(None)
    tasks = [row["task_id"] for row in problem_set.problems]
    right = {t: answered(MINI, e.answer) for t, e in zip(tasks, examples, strict=True)}
    assert all(score(problem_set, right, tmp_path, base_only=True).passed(plus=False).values())
    nonsense = dict.fromkeys(tasks, "#### -77777")
    found = score(problem_set, nonsense, tmp_path, base_only=True)
    assert not any(found.passed(plus=False).values())


def test_references_give_what_the_tests_expect():
    """All rows: the expected values of a problem are computed from its reference."""
    for number, example in enumerate(mini_code.examples("test")):
        made = to_problem(example, number)
        namespace = {}
        exec(made["prompt"] + made["canonical_solution"], namespace)
        for arguments, expected in example.check["tests"]:
            assert namespace[made["entry_point"]](*arguments) == expected
        assert len(made["base_input"]) == len(example.check["tests"])
        assert made["instruction"].endswith(made["prompt"].rstrip())


def test_problems_have_evalplus_fields():
    from evalplus.data.utils import completeness_check

    problem_set = MINI.load_problems(None)
    completeness_check("mini", {row["task_id"]: row for row in problem_set.problems})
    assert len(problem_set.problems) == 5 and problem_set.is_subset
    assert [json.loads(line) for line in problem_set.content.splitlines()] == list(
        problem_set.problems
    )


class AlpacaModel:
    def apply_chat_template(self, history, add_generation_prompt=True):
        return ALPACA.format(instruction=history[0]["content"])


def test_it_asks_in_the_words_of_the_training():
    example = next(mini_code.examples("test"))
    [row, *_] = MINI.load_problems(None).problems
    assert MINI.prompt(row, AlpacaModel(), None) == ALPACA.format(instruction=example.instruction)
    plain = MiniCode(name="mini_code", protocol="plain")
    assert plain.prompt(row, AlpacaModel(), None) == row["prompt"]
    assert "\ndef " in plain.stop_sequences() and "\n```\n" not in MINI.stop_sequences()


VERDICTS = [
    # answer, what the judge of the project said before, what EvalPlus says
    (RIGHT, True, True),
    (f"```python\n{RIGHT}```", True, True),
    (f"Here it is:\n\n```\n{RIGHT}```\nDone.", True, True),
    (f"```python\n{RIGHT}", True, True),
    (f"```sh\npip install double\n```\n```python\n{RIGHT}```", True, True),
    (f"```python\nimport math\n\n{RIGHT}\nprint(double(2))\n```", True, True),
    (f"```python\n{RIGHT}\nif __name__ == '__main__':\n    raise SystemExit\n```", True, True),
    ("def double(x):\n    y = x\n\n    return x + y", True, True),
    ("", False, False),
    ("I cannot do that.", False, False),
    ("def other(x):\n    return x * 2", False, False),
    ("def double(x):\n    return x + 2", False, False),
    ("def double(x):\n    print(x * 2)", False, False),
    ("def double(x:\n    return x * 2", False, False),
    ("def double(x):\n    raise ValueError(x)", False, False),
    ("double = None", False, False),
    ("def double(x):\n    while True:\n        pass\n    return x * 2", False, False),
    ("import sys\ndef double(x):\n    sys.exit(0)\n    return x * 2", False, False),
    ("\x00", False, False),
    # EvalPlus compares with ==, whatever the types
    ("def double(x):\n    return x * 2.0", False, True),
    ("def double(x):\n    return x * 2 or False", False, True),
    # EvalPlus keeps imports, and the functions, classes and variables the function needs
    (f"{RIGHT}\nexit(0)", False, True),
    (f"{RIGHT}\nopen(0).read()\ninput()", False, True),
    (f"{RIGHT}\nblock = bytearray(8 * 1024**3)", False, True),
    # EvalPlus drops a function that returns nothing, though another calls it
    (
        "def add(x):\n    yield x * 2\n\n\ndef double(x):\n    return next(add(x))",
        True,
        False,
    ),
]


@pytest.mark.sandbox
def test_verdicts_are_those_of_the_judge_before_but_for_what_evalplus_does_otherwise(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(
        evalplus_scoring, "LONGER_LIMITS", {"min_time_limit": 1.0, "gt_time_limit_factor": 4.0}
    )
    row = {
        "prompt": "def double(x):\n",
        "entry_point": CHECK["entry_point"],
        "canonical_solution": "    return x * 2\n",
        "contract": "",
        "base_input": [arguments for arguments, _ in CHECK["tests"]],
        "plus_input": [],
        "atol": 0,
    }
    tasks = [f"MiniCode/{number}" for number in range(len(VERDICTS))]
    problem_set = subset("humaneval", "by hand", tuple({**row, "task_id": task} for task in tasks))
    answers = {t: answered(MINI, v[0]) for t, v in zip(tasks, VERDICTS, strict=True)}
    found = score(problem_set, answers, tmp_path, base_only=True).passed(plus=False)
    assert [found[task] for task in tasks] == [new for _, _, new in VERDICTS]


def test_settings_and_what_it_needs():
    assert MINI.runs_generated_code and MINI.max_new_tokens == 96
    assert MINI.fetch(None) is None and MINI.fingerprint(None) == "mini_code-v1"
    MINI.ready(None)
    assert not list(MINI.problems())


@pytest.mark.sandbox
def test_a_real_model_gets_a_number(make_run, tmp_path):
    from alps.evals.context import EvaluationContext
    from alps.models.checkpoint import materialize
    from alps.models.load import load_model, load_tokenizer

    run = make_run()
    base = materialize(run.model)
    own = {"model": load_model(base).eval(), "tokenizer": load_tokenizer(base), "data": run.data}
    folder = tmp_path / "mini_code/alpaca"
    card = MINI.evaluate(
        EvaluationContext(
            build_language_model=language_model, **own, batch_size=4, folder=folder, weights="w"
        )
    )
    assert card.metrics == {"pass@1": 0.0} and card.num_documents == 5
    assert card.details["decoding"]["max_new_tokens"] == 96
    assert card.details["num_truncated_prompts"] == 0
    assert sum(card.details["failed"].values()) == 5 and (folder / "problems.jsonl").exists()


@pytest.mark.parametrize("protocol", ["alpaca", "plain", "meta"])
def test_every_protocol_is_fine(protocol):
    assert not list(MiniCode(name="mini_code", protocol=protocol).problems())
