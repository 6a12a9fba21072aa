import inspect

import pytest

from alps.data.template import ALPACA
from alps.evals.evalplus.prompts import (
    INSTRUCTION_PREFIX,
    RESPONSE_PREFIX,
    extract_program,
    format_prompt,
    instruction_stop_sequences,
    stop_sequences,
)

PROBLEM = '\n\ndef double(x):\n    """Twice x."""\n\n'


class AlpacaModel:
    """The part of a language model that writes prompts."""

    def apply_chat_template(self, history, add_generation_prompt=True):
        assert add_generation_prompt
        [turn] = history
        return ALPACA.format(instruction=turn["content"])


class ChatTokenizer:
    chat_template = "some"

    def apply_chat_template(self, turns, tokenize):
        return "".join(f"<{t['role']}>{t['content']}</>" for t in turns)


class PlainTokenizer:
    chat_template = None


def test_alpaca_is_one_instruction_and_a_begun_response():
    assert format_prompt("alpaca", PROBLEM, AlpacaModel(), PlainTokenizer()) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n"
        "Please provide a self-contained Python script that solves the following problem in a "
        "markdown code block:\n"
        "```\n"
        "def double(x):\n"
        '    """Twice x."""\n'
        "```\n\n"
        "### Response:\n"
        "Below is a Python script with a self-contained function that solves the problem and "
        "passes corresponding tests:\n"
        "```python\n"
    )


@pytest.mark.parametrize("protocol", ["alpaca", "meta"])
def test_the_response_is_told_from_the_question(protocol):
    asked = format_prompt(protocol, f"{PROBLEM}{RESPONSE_PREFIX}", AlpacaModel(), ChatTokenizer())
    assert asked.response == f"{RESPONSE_PREFIX}\n```python\n"
    assert asked == asked.question + asked.response


def test_meta_is_what_evalplus_asks():
    from evalplus.provider.utility import make_raw_chat_prompt

    asked = format_prompt("meta", PROBLEM, AlpacaModel(), ChatTokenizer())
    stripped = PROBLEM.strip() + "\n"
    prefixes = INSTRUCTION_PREFIX, RESPONSE_PREFIX
    assert asked == make_raw_chat_prompt(stripped, *prefixes, ChatTokenizer())
    assert asked.startswith(f"<user>{INSTRUCTION_PREFIX}\n```\ndef double(x):\n")
    assert asked.endswith(f"```\n</><assistant>{RESPONSE_PREFIX}\n```python\n")


def test_meta_needs_a_chat_template():
    with pytest.raises(ValueError, match=r"protocol=meta .* use protocol=alpaca"):
        format_prompt("meta", PROBLEM, AlpacaModel(), PlainTokenizer())


def test_plain_is_the_problem_itself():
    asked = format_prompt("plain", PROBLEM, AlpacaModel(), PlainTokenizer())
    assert asked == 'def double(x):\n    """Twice x."""\n'


def test_the_two_sentences_are_those_of_the_installed_evalplus():
    from evalplus.codegen import run_codegen

    source = inspect.getsource(run_codegen)
    assert f'instruction_prefix = "{INSTRUCTION_PREFIX}"' in source
    assert f'response_prefix = "{RESPONSE_PREFIX}"' in source


def test_answers_end_as_in_evalplus():
    common = ["<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint("]
    assert instruction_stop_sequences() == common
    assert (
        stop_sequences("alpaca", "mbpp")
        == stop_sequences("meta", "humaneval")
        == [*common, "\n```\n"]
    )
    more = ["\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "]
    assert stop_sequences("plain", "humaneval") == [*common, *more]
    assert stop_sequences("plain", "mbpp") == [*common, '\n"""', "\nassert"]


def test_an_answer_ends_at_the_first_stop_and_holds_no_tabs():
    ends = ["\nprint(", "\n```\n"]
    assert extract_program("alpaca", PROBLEM, "def f():\n\treturn 1\n```\nNow\nprint(1)", ends) == (
        "def f():\n    return 1"
    )
    assert extract_program("plain", PROBLEM, "    return 2 * x", ends) == (
        'def double(x):\n    """Twice x."""\n    return 2 * x'
    )
