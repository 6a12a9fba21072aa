"""lm-eval's model interface, with a journal of answers and distributed evaluation."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, hash_args

from alps.base.hashing import digest
from alps.base.progress import ProgressMode, track_progress
from alps.data.template import render
from alps.evals.context import EvaluationContext, GenerationCounts
from alps.evals.engine.journal import Journal
from alps.evals.engine.prompts import PrefilledPrompt, PromptEngine, prefilled_prompt
from alps.models.load import Tokenizer
from alps.settings.interfaces import Protocol

log = logging.getLogger(__name__)

ANSWER_VERSION = 2
"""Incremented when the same requests get other answers, which invalidates journals."""


class LanguageModel(LM):
    """Passes requests to an engine and records each answer, so that none is computed twice.

    lm-eval distributes the documents over ranks and gathers their results on rank 0.
    """

    def __init__(
        self,
        engine: LM,
        journal: Journal,
        tokenizer: Tokenizer,
        template: str,
        title: str,
        progress: ProgressMode = "off",
        counts: GenerationCounts | None = None,
    ):
        """Wraps an engine.

        Args:
            engine: An lm-eval model of this process.
            journal: Journal of its answers.
            tokenizer: The model's.
            template: Template of conversations, as in `data.template`.
            title: Title of the progress bar.
            progress: How progress is shown.
            counts: Counters of the generation cost.
        """
        super().__init__()
        self.engine, self.journal, self.tokenizer = engine, journal, tokenizer
        self.template, self.title = template, title
        self.counts = counts or GenerationCounts()
        self._device = engine.device if engine.device is not None else torch.device("cpu")
        self._rank, self._world_size = rank_and_world_size()
        self.progress: ProgressMode = progress if self._rank == 0 else "off"
        self._details: dict[str, Any] = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy answers, without their stop strings."""
        return self._answers("generate_until", requests)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihoods (nats) of continuations, and whether each is the greedy one."""
        return [(value, greedy) for value, greedy in self._answers("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihoods (nats) of whole texts."""
        return self._answers("loglikelihood_rolling", requests)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Formats a conversation in the model's chat template, or as a single instruction.

        Raises:
            ValueError: If the model has no chat template but needs one, or a template of single
                instructions gets several turns.
        """
        if self.template == "chat" and self.tokenizer.chat_template:
            text = str(
                self.tokenizer.apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )
            if add_generation_prompt:
                return text
            return prefilled_prompt(text, chat_history[-1]["content"])
        prefilled = "" if add_generation_prompt else chat_history[-1]["content"]
        turns = chat_history[:-1] if prefilled else chat_history
        if any(turn["role"] == "assistant" for turn in turns):
            raise ValueError(f"template {self.template} holds one instruction, not a conversation")
        instruction = "\n\n".join(turn["content"].strip() for turn in turns)
        question = render(self.template, [instruction], self.tokenizer)[0].text
        return PrefilledPrompt(question, prefilled) if prefilled else question

    def details(self) -> dict[str, Any]:
        """Context length, truncated prompts and decoding settings, for an evaluation's details."""
        return self._details

    @property
    def tokenizer_name(self) -> str:
        """Part of the key in lm-eval's request caches."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Name of the template, for lm-eval's own records."""
        return self.template if chat_template else ""

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """One number per rank, (ranks,)."""
        if self._world_size == 1:
            return tensor
        gathered = [torch.zeros_like(tensor) for _ in range(self._world_size)]
        dist.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def gather_object(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, obj: Any, dst: int = 0
    ) -> list[Any] | None:
        """The objects of all ranks on rank `dst`; None on the others."""
        if self._world_size == 1:
            return [obj]
        gathered = [None] * self._world_size if self._rank == dst else None
        dist.gather_object(obj, gathered, dst=dst)
        return gathered

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self._world_size > 1:
            dist.barrier()

    def _check_context(self, kind: str, requests: Sequence[Instance]) -> None:
        """Counts prompts of all ranks beyond the model's context, and warns of them.

        Raises:
            ValueError: If an answer or a choice alone fills the context.
        """
        if not isinstance(self.engine, PromptEngine):
            return
        try:
            truncated = {_document(r) for r in requests if self.engine.is_truncated(kind, r)}
        except ValueError as error:
            raise ValueError(f"{self.title}: {error}") from None
        total = sum(self.gather_object(len(truncated)) or [])
        if total:
            log.warning(
                "%s: %d prompts lose their beginning, which is beyond the model's context of %d "
                "tokens",
                *(self.title, total, self.engine.max_length),
            )
        before = self._details.get("num_truncated_prompts", 0)
        self._details["context_length"] = self.engine.max_length
        self._details["num_truncated_prompts"] = before + total
        if kind == "generate_until" and requests:
            self._details["decoding"] = self.engine.decoding(requests[0].arguments[1]).to_dict()

    def _answers(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        self._check_context(kind, requests)
        hashes = [hash_args(kind, request.args) for request in requests]
        pending = {h: r for h, r in zip(hashes, requests, strict=True) if h not in self.journal}
        if pending:
            start = time.perf_counter()
            documents = {key: _document(request) for key, request in pending.items()}
            total = len({_document(request) for request in requests})
            known = total - len(set(documents.values()))
            with track_progress(self.title, total, self.progress, "documents", known) as report:
                hook: Any = _JournalHook(self.journal, documents, report, known)
                self.engine.set_cache_hook(hook)
                for group in _by_task(list(pending.values())):
                    self._ask(kind, group)
                report(total)
            self.counts.seconds += time.perf_counter() - start
            self.counts.num_answers += len(pending)
            if kind == "generate_until":
                self.counts.num_tokens += self._num_tokens(self.journal.answers(pending))
        return self.journal.answers(hashes)

    def _ask(self, kind: str, requests: list[Instance]) -> None:
        """Answers all requests, in smaller batches if memory runs out."""
        while True:
            try:
                answers = getattr(self.engine, kind)(requests, disable_tqdm=True)
                break
            except torch.OutOfMemoryError:
                if not _halve_batch_size(self.engine):
                    raise
                torch.cuda.empty_cache()
            requests = [r for r in requests if hash_args(kind, r.args) not in self.journal]
        for request, answer in zip(requests, answers, strict=True):
            key = hash_args(kind, request.args)
            if key not in self.journal:  # an engine without partial results
                self.journal.add(key, answer)

    def _num_tokens(self, answers: Sequence[str]) -> int:
        ids = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        return sum(map(len, ids))


class _JournalHook:
    """lm-eval's cache hook: records each answer and reports how many documents are finished."""

    def __init__(
        self,
        journal: Journal,
        documents: Mapping[str, Hashable],
        report: Callable[[int], None],
        done: int,
    ):
        self.journal, self.documents, self.report, self.done = journal, documents, report, done
        self._open = Counter(documents.values())
        self._in_batches = False

    def batch_begins(self) -> None:
        """Reports here instead of at a batch's first answer, if the engine calls this."""
        self._in_batches = True
        self.report(self.done)

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        key = hash_args(attr, req)
        if key in self.journal:
            return
        self.journal.add(key, res)
        document = self.documents[key]
        self._open[document] -= 1
        if not self._open[document]:
            self.done += 1
            if not self._in_batches:
                self.report(self.done)


def language_model(context: EvaluationContext, protocol: Protocol, title: str) -> LanguageModel:
    """The context's model on the engine of its backend.

    Args:
        context: The model to evaluate.
        protocol: Decides the template of conversations.
        title: Title of the progress bar.
    """
    if protocol == "meta" and not context.tokenizer.chat_template:
        raise ValueError(
            f"{title}: protocol=meta asks in the model's own chat template, but its tokenizer has "
            "none: use evals.protocol=alpaca or plain"
        )
    template = {"alpaca": context.data.template, "meta": "chat"}.get(protocol, "plain")
    encoded = None if protocol == "plain" else template
    if context.backend == "vllm":
        from alps.evals.engine.vllm import vllm_engine

        engine: LM = vllm_engine(context, encoded)
    else:
        from alps.evals.engine.hf import HFEngine

        engine = HFEngine(context.model, context.tokenizer, context.batch_size, encoded)
    dtype = str(getattr(context.model, "dtype", ""))
    precision = dtype if context.precision == "32" else context.precision
    identity = digest([ANSWER_VERSION, context.weights, context.backend, precision])
    journal = Journal(context.folder, identity, rank_and_world_size()[0])
    return LanguageModel(
        engine, journal, context.tokenizer, template, title, context.progress, context.counts
    )


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process, and number of processes that evaluate together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _document(request: Instance) -> Hashable:
    """Identifies a request's document, or its prompt if it has none."""
    return request.task_name, request.args[0] if request.doc_id is None else request.doc_id


def _by_task(requests: list[Instance]) -> list[list[Instance]]:
    """Requests grouped by task: prompts of a task share a prefix."""
    by_name = sorted(requests, key=lambda r: r.task_name or "")
    return [list(group) for _, group in groupby(by_name, key=lambda r: r.task_name or "")]


def _halve_batch_size(engine: Any) -> bool:
    """Halves the engine's batch size; False if that is not possible."""
    size = getattr(engine, "batch_size_per_gpu", 1)
    if not isinstance(size, int) or size < 2:
        return False
    engine.batch_size_per_gpu = size // 2
    engine.automatic = False
    return True
