import re

import pytest

from alps.data.generators import mini_general
from alps.evals.mini.check_general import constraint_results

SPLITS = ("train", "test")
EXAMPLES = {split: list(mini_general.examples(split)) for split in SPLITS}
SAMPLE = EXAMPLES["train"][:1500] + EXAMPLES["test"]


def test_every_reference_answer_obeys_all_its_constraints():
    for example in SAMPLE:
        results = constraint_results(example.answer, example.check)
        assert all(results) and 1 <= len(results) <= 2, example


@pytest.mark.parametrize("answer", ["Well, I do not know.", "", "- Yes, that is so.\n- And so on"])
def test_an_answer_that_ignores_the_request_mostly_fails(answer):
    obeyed = sum(all(constraint_results(answer, example.check)) for example in EXAMPLES["test"])
    assert obeyed / len(EXAMPLES["test"]) < 0.3


def test_the_instruction_names_every_parameter():
    for example in SAMPLE:
        for constraint in example.check["constraints"]:
            for name, value in constraint.items():
                values = value if isinstance(value, list) else [value]
                assert name == "kind" or all(str(item) in example.instruction for item in values), (
                    example
                )


def test_every_kind_comes_alone_and_with_others_in_both_splits():
    for split in SPLITS:
        kinds = [[c["kind"] for c in example.check["constraints"]] for example in EXAMPLES[split]]
        alone = {names[0] for names in kinds if len(names) == 1}
        paired = {name for names in kinds if len(names) == 2 for name in names}
        assert alone == paired == set(mini_general.KINDS)
        assert 0.25 < sum(len(names) == 2 for names in kinds) / len(kinds) < 0.75


def test_every_fact_says_its_topic_once_without_commas():
    for topic in mini_general._PARSED_TOPICS:
        assert len(topic.facts) == 5
        for fact in topic.facts:
            assert len(re.findall(rf"\b{topic.word}\b", fact, re.IGNORECASE)) == 1, fact
            assert re.fullmatch(r"[A-Z][A-Za-z0-9 ]+\.", fact), fact


def test_examples_are_short_finished_text():
    for example in SAMPLE:
        assert len(example.instruction) <= 170 and len(example.answer) <= 180
        assert not re.search(r"[{}]|  ", example.instruction), example
