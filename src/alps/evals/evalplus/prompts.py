"""How EvalPlus asks for code: the prompt, where an answer ends, and what program it makes."""

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
"""Both as in `evalplus.codegen.run_codegen`, where nobody else can reach them."""

CLOSING_FENCE = "\n```\n"


class _AsTrained:
    """What `make_raw_chat_prompt` takes for a tokenizer; it writes the template of the training."""

    chat_template = "alpaca"

    def __init__(self, lm: LanguageModel):
        self._lm = lm

    def apply_chat_template(self, turns: Sequence[Mapping[str, str]], tokenize: bool) -> str:
        """One instruction, and the beginning of its response."""
        assert not tokenize
        question, response = turns
        instruction = {**question, "content": question["content"].strip()}
        return self._lm.apply_chat_template([instruction]) + response["content"]


def ask(protocol: Protocol, problem: str, lm: LanguageModel, tokenizer: Tokenizer) -> str:
    """The prompt for a problem.

    Under `plain` it is the problem itself, to be completed. Else EvalPlus' instruction stands
    before it, and the response has begun already: its first sentence and an open code block.

    Args:
        protocol: `alpaca`, `plain` or `meta`.
        problem: EvalPlus' prompt: imports, signature and docstring, or (MBPP) a docstring.
        lm: Writes the template of the training.
        tokenizer: Writes the model's own chat template.

    Raises:
        ValueError: Under `meta`, if the model has no chat template.
    """
    from evalplus.provider.utility import make_raw_chat_prompt

    from alps.evals.engine.prompts import PrefilledPrompt

    if protocol == "plain":
        return as_codegen_has_it(problem)
    if protocol == "meta" and not tokenizer.chat_template:
        raise ValueError(
            "protocol=meta asks in the model's own chat template, but its tokenizer has none: "
            "use protocol=alpaca or protocol=plain"
        )
    writer: Any = tokenizer if protocol == "meta" else _AsTrained(lm)
    text = as_codegen_has_it(problem)
    prompt = make_raw_chat_prompt(text, INSTRUCTION_PREFIX, RESPONSE_PREFIX, writer)
    question, response, fence = prompt.rpartition(RESPONSE_PREFIX)
    return PrefilledPrompt(question, response + fence)


def stops(protocol: Protocol, dataset: Dataset) -> list[str]:
    """Texts that end an answer to a prompt of `ask`, as in EvalPlus' decoders."""
    from evalplus.provider.utility import extra_eos_for_direct_completion

    if protocol == "plain":
        return [*instruction_stops(), *extra_eos_for_direct_completion(dataset)]
    return [*instruction_stops(), CLOSING_FENCE]


def instruction_stops() -> list[str]:
    """Texts that end an answer whose code block, if there is one, the model opens itself."""
    from evalplus.provider.utility import EOS

    return list(EOS)


def program(protocol: Protocol, problem: str, answer: str, ends: Sequence[str]) -> str:
    """What EvalPlus' decoders and codegen make of an answer, before it is sanitized.

    Args:
        protocol: It was asked under.
        problem: EvalPlus' prompt.
        answer: What the model wrote.
        ends: The texts that end an answer.
    """
    end = min((answer.index(e) for e in ends if e in answer), default=len(answer))
    written = answer[:end].replace("\t", "    ")
    return as_codegen_has_it(problem) + written if protocol == "plain" else written


def as_codegen_has_it(problem: str) -> str:
    """A problem's text as `evalplus.codegen.codegen` hands it on."""
    return problem.strip() + "\n"
