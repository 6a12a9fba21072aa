import hashlib
import itertools
import json
import re
import subprocess
import sys

import pytest

from alps.data import mini_math
from alps.evals.check_math import exact_match

# SHA-256 over the first 200 rows of each split.
PINNED = {
    "train": "626ca40ff5b0748ab0832b995e1cbb4cf03bb50aa3828b7e0f3bdf3522403fee",
    "test": "96c8f76cea2e5a1723c66142c92b49b0ec473cc4a678aef43a2bc3787b57dbaf",
}
SPLITS = ("train", "test")
ROWS = {split: list(mini_math.examples(split)) for split in SPLITS}
SAMPLE = ROWS["train"][:1500] + ROWS["test"]


def digest(rows):
    text = json.dumps([[row.instruction, row.answer, row.check] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_the_same_on_every_machine(split):
    message = "rows changed? raise VERSION in mini_math.py and repin here"
    assert digest(ROWS[split][:200]) == PINNED[split], message


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_rows_do_not_depend_on_the_hash_seed(hash_seed):
    code = (
        "import json, sys\nfrom itertools import islice\nimport alps.data.mini_math as mini\n"
        "rows = [row for s in ('train', 'test') for row in islice(mini.examples(s), 200)]\n"
        "json.dump([[row.instruction, row.answer, row.check] for row in rows], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    rows = ROWS["train"][:200] + ROWS["test"][:200]
    assert json.loads(done.stdout) == [[row.instruction, row.answer, row.check] for row in rows]


def test_no_instruction_comes_twice_within_or_across_splits():
    instructions = [row.instruction for split in SPLITS for row in ROWS[split]]
    assert len(instructions) == mini_math.NUM_TRAIN + mini_math.NUM_TEST >= 4300
    assert len(set(instructions)) == len(instructions)


@pytest.mark.parametrize(("split", "draws_per_row"), [("train", 2), ("test", 6)])
def test_only_the_rows_taken_are_drawn(split, draws_per_row, monkeypatch):
    calls = []
    draw = mini_math.draw
    monkeypatch.setattr(mini_math, "draw", lambda rng: calls.append(1) or draw(rng))
    rows = mini_math.examples(split)
    assert not calls
    taken = list(itertools.islice(rows, 200))
    assert taken == ROWS[split][:200]
    assert 200 <= len(calls) <= 200 * draws_per_row


def test_checks_are_plain_json():
    for row in ROWS["train"] + ROWS["test"]:
        assert json.loads(json.dumps(row.check)) == row.check


def test_every_reference_answer_is_right_and_its_neighbours_are_wrong():
    for row in SAMPLE:
        answer = int(row.check["answer"])
        assert exact_match(row.answer, row.check)
        assert row.answer.endswith(f"\n#### {answer}")
        assert not exact_match(row.answer.replace("####", "###"), row.check)
        assert not exact_match(f"{row.answer}1", row.check)
        assert not exact_match(f"#### {answer + 1}", row.check)


def test_every_step_of_every_answer_is_true_and_the_last_one_is_the_answer():
    for row in SAMPLE:
        steps = re.findall(r"(\d+(?: [-+*/] \d+)+) = (\d+)", row.answer)
        assert 2 <= len(steps) <= 3
        for left, right in steps:
            assert eval(left) == int(right) > 1, row
        assert steps[-1][1] == row.check["answer"]
        assert row.answer.count("=") == len(steps)


def test_rows_are_short_finished_text():
    for row in SAMPLE:
        assert not re.search(r"[{}\[\]]|  |\b1 [a-z]+s\b", row.instruction + row.answer), row
        assert len(row.instruction) <= 110 and row.instruction.endswith("?")
        assert len(row.answer) <= 160


def test_all_templates_and_wordings_are_drawn():
    assert len(mini_math._READ) >= 20
    shapes = {re.sub(r"\d+", "0", row.answer.split("\n")[-2]) for row in ROWS["test"]}
    assert len(shapes) >= 20
    words = mini_math._WOMEN + mini_math._MEN + mini_math._THINGS + mini_math._FOODS
    hidden = re.compile(r"\d+|" + "|".join(rf"{word}" for word in words) + r"|\bs?he\b|\bS?[Hh]e\b")
    drawn = {hidden.sub("_", row.instruction) for row in ROWS["train"]}
    assert len(drawn) == sum(len(template.wordings) for template in mini_math._READ)


def test_steps_go_from_left_to_right():
    assert mini_math.work_out("[t = a * b / 10] [n = t + 1]", {"a": 5, "b": 8}) == (
        "5 * 8 / 10 = 4 4 + 1 = 5",
        5,
    )


@pytest.mark.parametrize("step", ["a - b", "a / b", "b - a - 4", "a - 1 - 1"])
def test_numbers_that_do_not_work_out_are_refused(step):
    with pytest.raises(ArithmeticError):
        mini_math.work_out(f"[n = {step}]", {"a": 3, "b": 8})
