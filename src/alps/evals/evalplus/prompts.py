"""EvalPlus' prompts: how a problem is asked, where an answer ends, which program it contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alps.evals.evalplus.problems import Dataset
from alps.settings.interfaces import Protocol

if TYPE_CHECKING:
    from alps.evals.engine.language_model import LanguageModel
    from alps.models.load import Tokenizer

INSTRUCTION_PREFIX = (
    "Please provide a self-contained Python script that solves the following problem in a "
    "markdown code block:"
)
RESPONSE_PREFIX = (
    "Below is a Python script with a self-contained function that solves the problem and passes "
    "corresponding tests:"
)
"""Both copied from the body of `evalplus.codegen.run_codegen`, which doesn't export them."""

CLOSING_FENCE = "\n```\n"


class _TrainingTemplate:
    """The template of the training behind the tokenizer interface of `make_raw_chat_prompt`."""

    chat_template = "alpaca"

    def __init__(self, lm: LanguageModel):
        self._lm = lm

    def apply_chat_template(self, turns: Sequence[Mapping[str, str]], tokenize: bool) -> str:
        """One instruction and the beginning of its response."""
        assert not tokenize
        question, response = turns
        instruction = {**question, "content": question["content"].strip()}
        return self._lm.apply_chat_template([instruction]) + response["content"]


def format_prompt(protocol: Protocol, problem: str, lm: LanguageModel, tokenizer: Tokenizer) -> str:
    """The prompt of a problem.

    Under `plain` the model completes the problem. Otherwise EvalPlus' instruction precedes it, and
    the response is prefilled with EvalPlus' first sentence and an open code block.

    Args:
        protocol: `alpaca`, `plain` or `meta`.
        problem: EvalPlus' prompt: imports, signature and docstring, or (MBPP) a docstring.
        lm: Applies the template of the training.
        tokenizer: Applies the model's own chat template.

    Raises:
        ValueError: Under `meta`, if the model has no chat template.
    """
    from evalplus.provider.utility import make_raw_chat_prompt

    from alps.evals.engine.prompts import PrefilledPrompt

    text = codegen_prompt(problem)
    if protocol == "plain":
        return text
    if protocol == "meta" and not tokenizer.chat_template:
        raise ValueError(
            "protocol=meta asks in the model's own chat template, but its tokenizer has none: "
            "use protocol=alpaca or protocol=plain"
        )
    template: Any = tokenizer if protocol == "meta" else _TrainingTemplate(lm)
    prompt = make_raw_chat_prompt(text, INSTRUCTION_PREFIX, RESPONSE_PREFIX, template)
    question, response, fence = prompt.rpartition(RESPONSE_PREFIX)
    return PrefilledPrompt(question, response + fence)


def stop_sequences(protocol: Protocol, dataset: Dataset) -> list[str]:
    """Stop sequences of EvalPlus' decoders for a prompt of `format_prompt`."""
    from evalplus.provider.utility import extra_eos_for_direct_completion

    if protocol == "plain":
        return [*instruction_stop_sequences(), *extra_eos_for_direct_completion(dataset)]
    return [*instruction_stop_sequences(), CLOSING_FENCE]


def instruction_stop_sequences() -> list[str]:
    """Stop sequences for a response that is not prefilled: a fence may open its code block."""
    from evalplus.provider.utility import EOS

    return list(EOS)


def extract_program(protocol: Protocol, problem: str, answer: str, stop: Sequence[str]) -> str:
    """The program in an answer, before it is sanitized, as in EvalPlus' decoders and codegen.

    Args:
        protocol: Protocol of the prompt.
        problem: EvalPlus' prompt.
        answer: The model's output.
        stop: Stop sequences.
    """
    end = min((answer.index(s) for s in stop if s in answer), default=len(answer))
    code = answer[:end].replace("\t", "    ")
    return codegen_prompt(problem) + code if protocol == "plain" else code


def codegen_prompt(problem: str) -> str:
    """A problem's text as normalized by `evalplus.codegen.codegen`."""
    return problem.strip() + "\n"
