"""Token ids of prompts, choices and answers, for every engine: encoded as in training."""

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

_Engine: Any = object  # a mixin of lm-eval's models, which provide the rest


class PrefilledPrompt(str):
    """A prompt with a prefilled response.

    Attributes:
        question: The prompt before the response.
        response: The prefilled beginning of the response.
    """

    question: str
    response: str

    def __new__(cls, question: str, response: str) -> PrefilledPrompt:
        """Concatenates both texts."""
        prompt = super().__new__(cls, question + response)
        prompt.question, prompt.response = question, response
        return prompt

    def __getnewargs__(self) -> tuple[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Arguments of a copy."""
        return self.question, self.response


def prefilled_prompt(text: str, response: str) -> str:
    """A formatted conversation, split before the prefilled response it ends in.

    Args:
        text: The conversation.
        response: The prefilled response; some templates strip its white space.
    """
    for suffix in (response, response.rstrip(), response.strip()):
        if suffix and text.endswith(suffix):
            return PrefilledPrompt(text.removesuffix(suffix), suffix)
    return text


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Decoding settings: the benchmark's, never the base model's own.

    Attributes:
        do_sample: Whether tokens are sampled; otherwise decoding is greedy.
        max_new_tokens: Longest answer.
        stop: Stop strings.
        end_token_ids: Tokens that end an answer.
        extra: Further settings of the benchmark.
    """

    do_sample: bool
    max_new_tokens: int
    stop: Sequence[str]
    end_token_ids: Sequence[int]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Flat record for result files."""
        known = asdict(self)
        return {**known.pop("extra"), **known}


def parse_generation_kwargs(
    settings: Mapping[str, Any],
    name: str,
    max_new_tokens: int = 256,
    end_token_ids: Sequence[int] = (),
) -> Decoding:
    """Decoding settings of a task's `generation_kwargs`.

    Args:
        settings: The `generation_kwargs`.
        name: Name of the benchmark, for messages.
        max_new_tokens: Longest answer if the settings have none.
        end_token_ids: Tokens that end an answer.

    Raises:
        ValueError: If a setting is not supported.
    """
    extra: dict[str, Any] = {**normalize_gen_kwargs(dict(settings), max_new_tokens)}
    do_sample, until = extra.pop("do_sample"), extra.pop("until")
    if not all(isinstance(text, str) for text in until):
        raise ValueError(f"until of {name} must be texts, got {until}")
    if extra.get("num_return_sequences", 1) != 1:
        raise ValueError(f"num_return_sequences of {name}: there is one answer to a prompt")
    if not do_sample:
        extra.pop("temperature", None)
    return Decoding(
        do_sample=do_sample,
        max_new_tokens=extra.pop("max_gen_toks"),
        stop=[text for text in until if text],
        end_token_ids=list(end_token_ids),
        extra=extra,
    )


class PromptEngine(_Engine):
    """Mixin for lm-eval's models that encodes all their prompts, choices and answers.

    With a template, a prompt has the same ids as in training, and a choice is appended like an
    answer. Without one (`protocol=plain`) texts are encoded as lm-eval does: context and choice
    together, with the tokenizer's own special tokens. An end-of-text token that the tokenizer
    appends to a prompt is dropped.

    Attributes:
        tokenizer: The model's.
        template: `alpaca`, `chat` or `plain` of `data.template`; None for lm-eval's encoding.
        end_ids: Tokens that end an answer.
    """

    tokenizer: Tokenizer
    template: str | None
    end_ids: Sequence[int]
    _recent: tuple[str, list[int]] = ("", [])

    @property
    def likelihood_tokens(self) -> int:
        """Longest prompt with its choice; the last token of the choice is no input."""
        return self.max_length + 1

    def tok_encode(
        self, string: str | Sequence[str], add_special_tokens: bool | None = None, **options: Any
    ) -> list[Any]:
        """Token ids of a prompt, or of its continuation (`add_special_tokens=False`)."""
        if not isinstance(string, str):
            return [self.tok_encode(text, add_special_tokens, **options) for text in string]
        if self.template is None:
            ids = super().tok_encode(string, add_special_tokens, **options)
            closed = add_special_tokens is not False and self._closes_texts
            return open_ended(ids, self._end) if closed else ids
        if add_special_tokens is False:
            return answer_ids(string, self.tokenizer)
        question, response = self._split(string)
        return [*question, *response]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of its choice; concatenated, they are a training sequence.

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
        question, prefilled = self._split(context)
        if not prefilled:
            return question or [self.prefix_token_id], answer_ids(continuation, self.tokenizer)
        assert isinstance(context, PrefilledPrompt)
        response = answer_ids(context.response + continuation, self.tokenizer)
        pairs = zip(prefilled, response, strict=False)
        same = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        return [*question, *response[:same]], response[same:]

    def decoding(self, settings: Mapping[str, Any]) -> Decoding:
        """Decoding settings of a task's `generation_kwargs`.

        Raises:
            ValueError: If the longest answer fills the model's context.
        """
        parsed = parse_generation_kwargs(settings, "the benchmark", self.max_gen_toks, self.end_ids)
        if reason := context_overflow_reason(parsed.max_new_tokens, self.max_length):
            raise ValueError(reason)
        return parsed

    def is_truncated(self, kind: str, request: Instance) -> bool:
        """Whether the beginning of a request's prompt is cut to fit the model's context."""
        if kind == "generate_until":
            new = self.decoding(request.arguments[1]).max_new_tokens
            return len(self.tok_encode(request.args[0])) + new > self.max_length
        if kind == "loglikelihood" and request.args[0]:
            return sum(map(len, self._encode_pair(*request.args))) > self.likelihood_tokens
        return False  # rolling windows cover the whole text

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers to prompts, without their stop strings."""
        answers: dict[int, str] = {}
        prompts = [self._prompt(request.args[0]) for request in requests]
        for decoding, indices in self._by_settings(requests):
            limit = self.max_length - decoding.max_new_tokens
            indices.sort(key=lambda n: (-sum(map(len, prompts[n])), requests[n].args[0]))
            longest = min(sum(map(len, prompts[indices[0]])), limit)
            size = self._prompts_per_batch(len(indices), longest + decoding.max_new_tokens)
            for batch in (indices[i : i + size] for i in range(0, len(indices), size)):
                ids = [[*prompts[n][0], *prompts[n][1]][-limit:] for n in batch]
                for n, new in zip(batch, self.generate(ids, decoding), strict=True):
                    answer = before_end_token(decoding.end_token_ids, new)
                    text = self._continuation(prompts[n][1], answer)
                    answers[n] = postprocess_generated_text(text, list(decoding.stop), None)
                    self.cache_hook.add_partial("generate_until", requests[n].args, answers[n])
        return [answers[n] for n in range(len(requests))]

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        """Token ids of the answer to each prompt; ids behind an end token are ignored."""
        raise NotImplementedError

    def _prompts_per_batch(self, num_prompts: int, tokens: int) -> int:
        """Batch size for prompts of at most `tokens` tokens, answers included."""
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
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.arguments[1], sort_keys=True), []).append(index)
        for indices in groups.values():
            yield self.decoding(requests[indices[0]].arguments[1]), indices

    def _split(self, text: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt in a template, and of its prefilled response."""
        assert self.template is not None
        prefilled = isinstance(text, PrefilledPrompt)
        question = text.question if prefilled else text
        if self._recent[0] != question:  # consecutive choices share their prompt
            self._recent = question, prompt_ids(self.template, question, self.tokenizer)
        return self._recent[1], answer_ids(text.response, self.tokenizer) if prefilled else []

    def _prompt(self, text: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt; the second part is one text with the answer and decoded with it."""
        if self.template is None:
            return [], self.tok_encode(text) or [self.prefix_token_id]
        question, prefilled = self._split(text)
        return question or [self.prefix_token_id], prefilled

    def _continuation(self, prefilled: Sequence[int], new: Sequence[int]) -> str:
        """The text that new tokens add.

        Tokenizers like Llama-2's drop the space before a text's first word, so a text is decoded
        from where its encoding began: an answer in a template alone, others with what precedes.
        """
        before, whole = (
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for ids in (list(prefilled), [*prefilled, *new])
        )
        return str(whole)[len(before) :]


def before_end_token(ends: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Token ids before the first end token."""
    return [*takewhile(lambda token: token not in ends, ids)]
