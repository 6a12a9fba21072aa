"""Prompts, choices and answers as token ids, for every engine: as training encodes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from alps.data.encoding.encode import answer_ids
from alps.data.template import open_ended, prompt_ids
from alps.evals.context import context_overflow_reason

if TYPE_CHECKING:
    from alps.models.load import Tokenizer

_Engine: Any = object  # mixed into one of lm-eval's models, which has the rest


class PrefilledPrompt(str):
    """A prompt whose response has begun already.

    Attributes:
        question: The prompt of the response.
        response: The beginning of the response.
    """

    question: str
    response: str

    def __new__(cls, question: str, response: str) -> PrefilledPrompt:
        """The text of both."""
        prompt = super().__new__(cls, question + response)
        prompt.question, prompt.response = question, response
        return prompt

    def __getnewargs__(self) -> tuple[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What a copy is made of."""
        return self.question, self.response


def with_response(text: str, response: str) -> str:
    """A conversation as text that ends in the beginning of a response.

    Args:
        text: All of it.
        response: What it ends in; some templates strip it.
    """
    for written in (response, response.rstrip(), response.strip()):
        if written and text.endswith(written):
            return PrefilledPrompt(text.removesuffix(written), written)
    return text


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How an answer is generated: what the benchmark says, and nothing of the base model's own.

    Attributes:
        do_sample: Whether tokens are sampled; else the most likely one is taken.
        max_new_tokens: Longest answer.
        stop: Texts that end an answer.
        end_token_ids: Tokens that end an answer.
        more: Further settings of the benchmark.
    """

    do_sample: bool
    max_new_tokens: int
    stop: Sequence[str]
    end_token_ids: Sequence[int]
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As it is recorded."""
        known = asdict(self)
        return {**known.pop("more"), **known}


def decoding(
    settings: Mapping[str, Any],
    name: str,
    max_new_tokens: int = 256,
    end_token_ids: Sequence[int] = (),
) -> Decoding:
    """How answers are generated under a task's `generation_kwargs`.

    Args:
        settings: Those.
        name: Of the benchmark.
        max_new_tokens: Longest answer, if they don't say.
        end_token_ids: Tokens that end an answer.

    Raises:
        ValueError: If they cannot be used.
    """
    found: dict[str, Any] = {**normalize_gen_kwargs(dict(settings), max_new_tokens)}
    do_sample, until = found.pop("do_sample"), found.pop("until")
    if not all(isinstance(text, str) for text in until):
        raise ValueError(f"until of {name} must be texts, got {until}")
    if found.get("num_return_sequences", 1) != 1:
        raise ValueError(f"num_return_sequences of {name}: there is one answer to a prompt")
    if not do_sample:
        found.pop("temperature", None)
    return Decoding(
        do_sample=do_sample,
        max_new_tokens=found.pop("max_gen_toks"),
        stop=[text for text in until if text],
        end_token_ids=list(end_token_ids),
        more=found,
    )


class PromptEngine(_Engine):
    """Mixed into a model of lm-eval, it makes all token ids that the model is asked with.

    With a template, a prompt has the ids it has in training, and a choice is appended as an answer
    is. Without one (`protocol=plain`) texts are encoded as lm-eval does: context and choice
    together, with the tokenizer's own special tokens. No prompt ends in an end-of-text token that
    the tokenizer added.

    Attributes:
        tokenizer: The model's.
        template: `alpaca`, `chat` or `plain` of `data.template`; None for lm-eval's own way.
        end_ids: Tokens that end an answer.
    """

    tokenizer: Tokenizer
    template: str | None
    end_ids: Sequence[int]
    _recent: tuple[str, list[int]] = ("", [])

    @property
    def likelihood_tokens(self) -> int:
        """Most tokens of a prompt with its choice: the last one is no input."""
        return self.max_length + 1

    def tok_encode(
        self, string: str | Sequence[str], add_special_tokens: bool | None = None, **options: Any
    ) -> list[Any]:
        """Token ids of a prompt, or of a text behind one (`add_special_tokens=False`)."""
        if not isinstance(string, str):
            return [self.tok_encode(text, add_special_tokens, **options) for text in string]
        if self.template is None:
            ids = super().tok_encode(string, add_special_tokens, **options)
            closed = add_special_tokens is not False and self._closes_texts
            return open_ended(ids, self._end) if closed else ids
        if add_special_tokens is False:
            return answer_ids(string, self.tokenizer)
        question, begun = self._parts(string)
        return [*question, *begun]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of its choice; together they are what training would see.

        Raises:
            ValueError: If the choice alone fills the model's context.
        """
        prompt, choice = self._pair(context, continuation)
        if len(choice) >= self.likelihood_tokens:
            raise ValueError(
                f"a choice of {len(choice)} tokens does not fit the model's context of "
                f"{self.max_length}: this model cannot be asked"
            )
        return prompt, choice

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.template is None:
            return super()._encode_pair(context, continuation)
        question, begun = self._parts(context)
        if not begun:
            return question or [self.prefix_token_id], answer_ids(continuation, self.tokenizer)
        assert isinstance(context, PrefilledPrompt)
        response = answer_ids(context.response + continuation, self.tokenizer)
        pairs = zip(begun, response, strict=False)
        same = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        return [*question, *response[:same]], response[same:]

    def decoding(self, settings: Mapping[str, Any]) -> Decoding:
        """How answers are generated under a task's `generation_kwargs`.

        Raises:
            ValueError: If the longest answer fills the model's context.
        """
        found = decoding(settings, "the benchmark", self.max_gen_toks, self.end_ids)
        if problem := context_overflow_reason(found.max_new_tokens, self.max_length):
            raise ValueError(problem)
        return found

    def is_cut(self, kind: str, request: Instance) -> bool:
        """Whether the prompt of a request loses its beginning, to fit the model's context."""
        if kind == "generate_until":
            new = self.decoding(request.arguments[1]).max_new_tokens
            return len(self.tok_encode(request.args[0])) + new > self.max_length
        if kind == "loglikelihood" and request.args[0]:
            return sum(map(len, self._encode_pair(*request.args))) > self.likelihood_tokens
        return False  # a rolling window loses nothing

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers to prompts, without their stop strings."""
        answers: dict[int, str] = {}
        prompts = [self._prompt(request.args[0]) for request in requests]
        for decoding, numbers in self._by_settings(requests):
            room = self.max_length - decoding.max_new_tokens
            numbers.sort(key=lambda n: (-sum(map(len, prompts[n])), requests[n].args[0]))
            longest = min(sum(map(len, prompts[numbers[0]])), room)
            for batch in self._batches(numbers, longest + decoding.max_new_tokens):
                rows = [[*prompts[n][0], *prompts[n][1]][-room:] for n in batch]
                for n, new in zip(batch, self.generate(rows, decoding), strict=True):
                    text = self._continuation(prompts[n][1], up_to(decoding.end_token_ids, new))
                    answers[n] = postprocess_generated_text(text, list(decoding.stop), None)
                    self.cache_hook.add_partial("generate_until", requests[n].args, answers[n])
        return [answers[n] for n in range(len(requests))]

    def generate(self, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        """Token ids that follow each prompt; what is behind an end token doesn't count."""
        raise NotImplementedError

    def _batches(self, numbers: Sequence[int], tokens: int) -> Iterator[Sequence[int]]:
        """Requests that are answered together.

        Args:
            numbers: Requests, those with the longest prompts first.
            tokens: Longest row, prompt and answer.
        """
        raise NotImplementedError

    @cached_property
    def _closes_texts(self) -> bool:
        return self.tokenizer("a")["input_ids"][-1] == self._end

    @property
    def _end(self) -> int:
        end = self.tokenizer.eos_token_id
        assert isinstance(end, int)
        return end

    def _by_settings(self, requests: Sequence[Instance]) -> Iterator[tuple[Decoding, list[int]]]:
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(json.dumps(request.arguments[1], sort_keys=True), []).append(number)
        for numbers in groups.values():
            yield self.decoding(requests[numbers[0]].arguments[1]), numbers

    def _parts(self, text: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt in a template, and of the response that has begun already."""
        assert self.template is not None
        prefilled = isinstance(text, PrefilledPrompt)
        question = text.question if prefilled else text
        if self._recent[0] != question:  # the choices of a document come one after the other
            self._recent = question, prompt_ids(self.template, question, self.tokenizer)
        return self._recent[1], answer_ids(text.response, self.tokenizer) if prefilled else []

    def _prompt(self, text: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt, and of that part of it which forms one text with the answer."""
        if self.template is None:
            return [], self.tok_encode(text) or [self.prefix_token_id]
        question, begun = self._parts(text)
        return question or [self.prefix_token_id], begun

    def _continuation(self, begun: Sequence[int], new: Sequence[int]) -> str:
        """The text that new tokens add.

        Tokenizers like Llama-2's drop the space before a text's first word, so a text is decoded
        from where it was encoded: an answer in a template alone, all others with what they go on.
        """
        before, whole = (
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for ids in (list(begun), [*begun, *new])
        )
        return str(whole)[len(before) :]


def up_to(ends: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Token ids before the first that is an end."""
    return [*takewhile(lambda token: token not in ends, ids)]
