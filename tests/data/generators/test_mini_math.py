import re

import pytest

from alps.data.generators import mini_math
from alps.evals.mini.check_math import exact_match

SPLITS = ("train", "test")
EXAMPLES = {split: list(mini_math.examples(split)) for split in SPLITS}
SAMPLE = EXAMPLES["train"][:1500] + EXAMPLES["test"]


def test_every_reference_answer_is_right_and_its_neighbours_are_wrong():
    for example in SAMPLE:
        answer = int(example.check["answer"])
        assert exact_match(example.answer, example.check)
        assert example.answer.endswith(f"\n#### {answer}")
        assert not exact_match(example.answer.replace("####", "###"), example.check)
        assert not exact_match(f"{example.answer}1", example.check)
        assert not exact_match(f"#### {answer + 1}", example.check)


def test_every_step_of_every_answer_is_true_and_the_last_one_is_the_answer():
    for example in SAMPLE:
        steps = re.findall(r"(\d+(?: [-+*/] \d+)+) = (\d+)", example.answer)
        assert 2 <= len(steps) <= 3
        for left, right in steps:
            assert eval(left) == int(right) > 1, example
        assert steps[-1][1] == example.check["answer"]
        assert example.answer.count("=") == len(steps)


def test_examples_are_short_finished_text():
    for example in SAMPLE:
        assert not re.search(r"[{}\[\]]|  |\b1 [a-z]+s\b", example.instruction + example.answer), (
            example
        )
        assert len(example.instruction) <= 110 and example.instruction.endswith("?")
        assert len(example.answer) <= 160


def test_all_templates_and_wordings_are_drawn():
    assert len(mini_math._PARSED_TEMPLATES) >= 20
    shapes = {re.sub(r"\d+", "0", example.answer.split("\n")[-2]) for example in EXAMPLES["test"]}
    assert len(shapes) >= 20
    words = mini_math._WOMEN + mini_math._MEN + mini_math._THINGS + mini_math._FOODS
    hidden = re.compile(r"\d+|" + "|".join(rf"{word}" for word in words) + r"|\bs?he\b|\bS?[Hh]e\b")
    drawn = {hidden.sub("_", example.instruction) for example in EXAMPLES["train"]}
    assert len(drawn) == sum(len(template.wordings) for template in mini_math._PARSED_TEMPLATES)


def test_steps_go_from_left_to_right():
    assert mini_math.evaluate_steps("[t = a * b / 10] [n = t + 1]", {"a": 5, "b": 8}) == (
        "5 * 8 / 10 = 4 4 + 1 = 5",
        5,
    )


@pytest.mark.parametrize("step", ["a - b", "a / b", "b - a - 4", "a - 1 - 1"])
def test_numbers_that_do_not_work_out_are_refused(step):
    with pytest.raises(ArithmeticError):
        mini_math.evaluate_steps(f"[n = {step}]", {"a": 3, "b": 8})
