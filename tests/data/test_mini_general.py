import hashlib
import itertools
import json
import re
import subprocess
import sys

import pytest

from alps.data import mini_general
from alps.evals.check_general import constraint_results

# SHA-256 over the first 200 rows of each split.
PINNED = {
    "train": "6f8d9b2590ca7cc6c14abef7aa6635e0f38621e7badc039cc5ec2eb17524839c",
    "test": "d382e0d81d47774138581cf9acd4ff73f5c2e5676a96121ff297ce92e80072a2",
}
SPLITS = ("train", "test")
ROWS = {split: list(mini_general.examples(split)) for split in SPLITS}
SAMPLE = ROWS["train"][:1500] + ROWS["test"]


def digest(rows):
    text = json.dumps([[row.instruction, row.answer, row.check] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_the_same_on_every_machine(split):
    message = "rows changed? raise VERSION in mini_general.py and repin here"
    assert digest(ROWS[split][:200]) == PINNED[split], message


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_rows_do_not_depend_on_the_hash_seed(hash_seed):
    code = (
        "import json, sys\nfrom itertools import islice\nimport alps.data.mini_general as mini\n"
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
    assert len(instructions) == mini_general.NUM_TRAIN + mini_general.NUM_TEST >= 4300
    assert len(set(instructions)) == len(instructions)


@pytest.mark.parametrize(("split", "draws_per_row"), [("train", 2), ("test", 6)])
def test_only_the_rows_taken_are_drawn(split, draws_per_row, monkeypatch):
    calls = []
    draw = mini_general.draw
    monkeypatch.setattr(mini_general, "draw", lambda rng: calls.append(1) or draw(rng))
    rows = mini_general.examples(split)
    assert not calls
    taken = list(itertools.islice(rows, 200))
    assert taken == ROWS[split][:200]
    assert 200 <= len(calls) <= 200 * draws_per_row


def test_checks_are_plain_json():
    for row in ROWS["train"] + ROWS["test"]:
        assert json.loads(json.dumps(row.check)) == row.check


def test_every_reference_answer_obeys_all_its_constraints():
    for row in SAMPLE:
        results = constraint_results(row.answer, row.check)
        assert all(results) and 1 <= len(results) <= 2, row


@pytest.mark.parametrize("answer", ["Well, I do not know.", "", "- Yes, that is so.\n- And so on"])
def test_an_answer_that_ignores_the_request_mostly_fails(answer):
    obeyed = sum(all(constraint_results(answer, row.check)) for row in ROWS["test"])
    assert obeyed / len(ROWS["test"]) < 0.3


def test_the_instruction_names_every_parameter():
    for row in SAMPLE:
        for constraint in row.check["constraints"]:
            for name, value in constraint.items():
                values = value if isinstance(value, list) else [value]
                assert name == "kind" or all(str(item) in row.instruction for item in values), row


def test_every_kind_comes_alone_and_with_others_in_both_splits():
    for split in SPLITS:
        kinds = [[c["kind"] for c in row.check["constraints"]] for row in ROWS[split]]
        alone = {names[0] for names in kinds if len(names) == 1}
        paired = {name for names in kinds if len(names) == 2 for name in names}
        assert alone == paired == set(mini_general.KINDS)
        assert 0.25 < sum(len(names) == 2 for names in kinds) / len(kinds) < 0.75


def test_every_fact_says_its_topic_once_without_commas():
    for topic in mini_general._READ:
        assert len(topic.facts) == 5
        for fact in topic.facts:
            assert len(re.findall(rf"\b{topic.word}\b", fact, re.IGNORECASE)) == 1, fact
            assert re.fullmatch(r"[A-Z][A-Za-z0-9 ]+\.", fact), fact


def test_rows_are_short_finished_text():
    for row in SAMPLE:
        assert len(row.instruction) <= 170 and len(row.answer) <= 180
        assert not re.search(r"[{}]|  ", row.instruction), row
