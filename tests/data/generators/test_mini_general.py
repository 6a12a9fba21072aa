import re

import pytest

from alps.data.generators import mini_general
from alps.evals.mini.check_general import constraint_results

SPLITS = ("train", "test")
ROWS = {split: list(mini_general.examples(split)) for split in SPLITS}
SAMPLE = ROWS["train"][:1500] + ROWS["test"]


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
