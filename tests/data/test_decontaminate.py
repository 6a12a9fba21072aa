import json

import pytest

from alps.data.decontaminate import BenchmarkPrompts
from alps.data.example import Example

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many in May."
)


@pytest.fixture
def prompts(tmp_path):
    """What asks for rows, of some benchmark rows."""

    def of(*rows, ngram: int = 13) -> BenchmarkPrompts:
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return BenchmarkPrompts([path], ngram)

    return of


def row(instruction: str, answer: str = "Yes.") -> Example:
    return Example(instruction=instruction, answer=answer)


@pytest.mark.parametrize("field", ["question", "prompt", "problem", "instruction", "text"])
def test_a_row_that_holds_a_prompt_is_found(prompts, field):
    found = prompts({field: QUESTION, "answer": "72"})
    assert found.contaminate(row(f"Solve this: {QUESTION} How many?"))
    assert found.contaminate(row("Repeat it.", f"He said: {QUESTION}"))
    assert not found.contaminate(row("Solve this: 72"))


def test_case_and_punctuation_make_no_difference(prompts):
    found = prompts({"question": QUESTION})
    assert found.contaminate(row(QUESTION.upper().replace(",", " --").replace(" ", "\n")))


@pytest.mark.parametrize(("shared", "expected"), [(12, False), (13, True), (14, True)])
def test_n_words_in_a_row_are_needed(prompts, shared, expected):
    words = QUESTION.split()[2 : 2 + shared]
    assert (
        prompts({"question": QUESTION}).contaminate(row(f"Other {' '.join(words)} end")) == expected
    )


def test_words_of_instruction_and_answer_are_not_read_as_one_text(prompts):
    words = QUESTION.split()
    split = row(" ".join(words[:9]), " ".join(words[9:]))
    assert not prompts({"question": QUESTION}).contaminate(split)


def test_words_out_of_order_are_not_the_prompt(prompts):
    words = QUESTION.split()
    assert not prompts({"question": QUESTION}).contaminate(row(" ".join(reversed(words))))


def test_a_short_prompt_must_be_the_whole_instruction(prompts):
    found = prompts({"question": "Compute 2 + 2."})
    assert found.contaminate(row("compute 2+2"))
    assert not found.contaminate(row("Compute 2 + 2. Then stop."))
    assert not found.contaminate(row("Ask.", "Compute 2 + 2."))


def test_the_number_of_words_can_be_chosen(prompts):
    found = prompts({"question": "one two three four"}, ngram=3)
    assert found.contaminate(row("a two three four b"))
    assert not found.contaminate(row("a three four b"))


def test_the_first_field_that_is_a_text_is_the_prompt(prompts):
    found = prompts({"question": 7, "prompt": "one two", "text": "three four"}, ngram=2)
    assert found.contaminate(row("one two")) and not found.contaminate(row("three four"))


@pytest.mark.parametrize("bad", [{"query": "x"}, {"question": " ?"}, {"question": None}])
def test_a_row_without_a_prompt_is_one_sentence(prompts, bad):
    with pytest.raises(ValueError, match=r"row 2 .*has no prompt; the fields question, prompt"):
        prompts({"question": QUESTION}, bad)
