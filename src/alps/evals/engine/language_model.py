"""A model as lm-eval wants it, which remembers its answers and works on several ranks."""

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
from alps.evals.engine.prompts import PrefilledPrompt, PromptEngine, with_response
from alps.models.load import Tokenizer
from alps.settings.interfaces import Protocol

log = logging.getLogger(__name__)

ANSWERS = 2
"""Raised when the same requests get other answers, so that those in journals are not used."""


class LanguageModel(LM):
    """Hands requests to an engine, keeps each answer, and never asks twice.

    Of several ranks each has the documents lm-eval gives it; what they found is gathered on rank 0.
    """

    def __init__(
        self,
        engine: LM,
        journal: Journal,
        tokenizer: Tokenizer,
        template: str,
        title: str,
        progress: ProgressMode = "off",
        work: GenerationCounts | None = None,
    ):
        """Wraps an engine.

        Args:
            engine: An lm-eval model of this process.
            journal: Where its answers are kept.
            tokenizer: The model's.
            template: How a conversation is written: as `data.template`.
            title: Names the work where progress is shown.
            progress: How it is shown.
            work: Counts what answering takes.
        """
        super().__init__()
        self.engine, self.journal, self.tokenizer = engine, journal, tokenizer
        self.template, self.title = template, title
        self.progress: ProgressMode = progress if rank_and_size()[0] == 0 else "off"
        self.work = work or GenerationCounts()
        self._device = engine.device if engine.device is not None else torch.device("cpu")
        self._rank, self._world_size = rank_and_size()
        self._details: dict[str, Any] = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy answers, without their stop strings."""
        return self._answers("generate_until", requests)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of continuations, and whether each is the greedy one."""
        return [(value, greedy) for value, greedy in self._answers("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood (nats) of whole texts."""
        return self._answers("loglikelihood_rolling", requests)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text: in the model's own template, or as one instruction.

        Raises:
            ValueError: If the model has no chat template but one is asked for, or a template of
                single instructions is to hold several turns.
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
            return (
                text if add_generation_prompt else with_response(text, chat_history[-1]["content"])
            )
        *asked, last = chat_history
        prefilled = "" if add_generation_prompt else last["content"]
        asked = asked if prefilled else chat_history
        if any(turn["role"] == "assistant" for turn in asked):
            raise ValueError(f"template {self.template} holds one instruction, not a conversation")
        instruction = "\n\n".join(turn["content"].strip() for turn in asked)
        question = render(self.template, [instruction], self.tokenizer)[0].text
        return PrefilledPrompt(question, prefilled) if prefilled else question

    def details(self) -> dict[str, Any]:
        """How it was asked, for an evaluation's details: context, prompts cut, settings used."""
        return self._details

    @property
    def tokenizer_name(self) -> str:
        """Part of what names a prompt in lm-eval's caches."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Name of the template, for lm-eval's own records."""
        return self.template if chat_template else ""

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """A number from every rank, as (ranks,)."""
        if self._world_size == 1:
            return tensor
        found = [torch.zeros_like(tensor) for _ in range(self._world_size)]
        dist.all_gather(found, tensor)
        return torch.stack(found)

    def gather_object(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, obj: Any, dst: int = 0
    ) -> list[Any] | None:
        """What every rank has, on rank `dst`; None on the others."""
        if self._world_size == 1:
            return [obj]
        found = [None] * self._world_size if self._rank == dst else None
        dist.gather_object(obj, found, dst=dst)
        return found

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self._world_size > 1:
            dist.barrier()

    def _look_at(self, kind: str, requests: Sequence[Instance]) -> None:
        """Counts prompts that are longer than the model's context, on all ranks, and says so.

        Raises:
            ValueError: If an answer or a choice alone fills the context.
        """
        if not isinstance(self.engine, PromptEngine):
            return
        try:
            cut = {_document(r) for r in requests if self.engine.is_cut(kind, r)}
        except ValueError as error:
            raise ValueError(f"{self.title}: {error}") from None
        total = sum(self.gather_object(len(cut)) or [])
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
        self._look_at(kind, requests)
        names = [hash_args(kind, request.args) for request in requests]
        open_ones = {n: r for n, r in zip(names, requests, strict=True) if n not in self.journal}
        if open_ones:
            began = time.perf_counter()
            documents = {name: _document(request) for name, request in open_ones.items()}
            total = len({_document(request) for request in requests})
            known = total - len(set(documents.values()))
            with track_progress(self.title, total, self.progress, "documents", known) as report:
                hook: Any = _Hook(self.journal, documents, report, known)
                self.engine.set_cache_hook(hook)
                for group in _by_task(list(open_ones.values())):
                    self._ask(kind, group)
                report(total)
            self.work.seconds += time.perf_counter() - began
            self.work.num_answers += len(open_ones)
            if kind == "generate_until":
                self.work.num_tokens += self._tokens(self.journal.answers(open_ones))
        return self.journal.answers(names)

    def _ask(self, kind: str, requests: list[Instance]) -> None:
        """All of them, in smaller batches where memory runs out."""
        while True:
            try:
                answers = getattr(self.engine, kind)(requests, disable_tqdm=True)
                break
            except torch.OutOfMemoryError:
                if not _halved(self.engine):
                    raise
                torch.cuda.empty_cache()
            requests = [r for r in requests if hash_args(kind, r.args) not in self.journal]
        for request, answer in zip(requests, answers, strict=True):
            name = hash_args(kind, request.args)
            if name not in self.journal:  # an engine without partial results
                self.journal.add(name, answer)

    def _tokens(self, answers: Sequence[str]) -> int:
        found = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        return sum(map(len, found))


class _Hook:
    """What lm-eval's models call with each answer they have; tells how many documents are done."""

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
        """An engine that calls this is asked how far it is then, not at a batch's first answer."""
        self._in_batches = True
        self.report(self.done)

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        name = hash_args(attr, req)
        if name in self.journal:
            return
        self.journal.add(name, res)
        document = self.documents[name]
        self._open[document] -= 1
        if not self._open[document]:
            self.done += 1
            if not self._in_batches:
                self.report(self.done)


def language_model(subject: EvaluationContext, protocol: Protocol, title: str) -> LanguageModel:
    """The subject's model behind an engine of its backend.

    Args:
        subject: What is examined.
        protocol: How conversations are written.
        title: Names the work.
    """
    if protocol == "meta" and not subject.tokenizer.chat_template:
        raise ValueError(
            f"{title}: protocol=meta asks in the model's own chat template, but its tokenizer has "
            "none: use evals.protocol=alpaca or plain"
        )
    template = {"alpaca": subject.data.template, "meta": "chat"}.get(protocol, "plain")
    encoded = None if protocol == "plain" else template
    if subject.backend == "vllm":
        from alps.evals.engine.vllm import vllm_engine

        engine: LM = vllm_engine(subject, encoded)
    else:
        from alps.evals.engine.hf import HFEngine

        engine = HFEngine(subject.model, subject.tokenizer, subject.batch_size, encoded)
    dtype = str(getattr(subject.model, "dtype", ""))
    identity = digest([ANSWERS, subject.weights, subject.backend, dtype])
    journal = Journal(subject.folder, identity, rank_and_size()[0])
    shows = subject.progress
    return LanguageModel(engine, journal, subject.tokenizer, template, title, shows, subject.work)


def rank_and_size() -> tuple[int, int]:
    """This process among those that examine together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _document(request: Instance) -> Hashable:
    """Names what a request belongs to: lm-eval's document, or the prompt itself."""
    return request.task_name, request.args[0] if request.doc_id is None else request.doc_id


def _by_task(requests: list[Instance]) -> list[list[Instance]]:
    """Requests of one task beside each other: their prompts begin alike."""
    by_name = sorted(requests, key=lambda r: r.task_name or "")
    return [list(group) for _, group in groupby(by_name, key=lambda r: r.task_name or "")]


def _halved(engine: Any) -> bool:
    """Asks for half the rows side by side; says whether that was possible."""
    size = getattr(engine, "batch_size_per_gpu", 1)
    if not isinstance(size, int) or size < 2:
        return False
    engine.batch_size_per_gpu = size // 2
    engine.automatic = False
    return True
