"""lm-eval's task of one MMLU subject, extended to the questions of all subjects.

57 tasks would be loaded one by one, and a rank could be without documents of a small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.samplers import FirstNSampler

from alps.evals.harness.task_config import InMemoryTask


class MmluTask(InMemoryTask):
    """Takes shots, description and task name of a request from its document's subject."""

    def __init__(self, config: dict[str, Any]):
        """Groups the shots by subject."""
        self._texts: dict[tuple[str, ...], str] = {}
        super().__init__(config=config)
        shots: dict[str, list[Any]] = {}
        for row in self.dataset.get("shots", ()):
            shots.setdefault(row["subject"], []).append(row)
        self.samplers = {subject: FirstNSampler(rows) for subject, rows in shots.items()}

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> Any:
        """A question as text, cached because lm-eval compiles the template on every call."""
        key = (doc["subject"], doc["question"], *doc["choices"])
        if key not in self._texts:
            self._texts[key] = str(super().doc_to_text(doc, doc_to_text))
        return self._texts[key]

    def fewshot_context(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, doc: dict[str, Any], num_fewshot: int, **options: Any
    ) -> Any:
        """The prompt, with the first shots of its subject.

        Raises:
            ValueError: If the subject has fewer shots.
        """
        if num_fewshot:
            self.sampler = self.samplers.get(doc["subject"], FirstNSampler([]))
            if len(self.sampler.df) < num_fewshot:
                raise ValueError(
                    f"subject {doc['subject']} has {len(self.sampler.df)} rows to show, not "
                    f"{num_fewshot}: get the file of shots again, or lower num_fewshot"
                )
        return super().fewshot_context(doc, num_fewshot=num_fewshot, **options)

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **options: Any) -> list[Instance]:
        """One request per choice, named by subject so that prompts with equal shots are batched."""
        _, number, repeats = options.pop("metadata")
        name = f"mmlu_{doc['subject']}"
        metadata = (name, number, repeats)
        requests = super().construct_requests(doc, ctx, metadata=metadata, **options)
        return requests if isinstance(requests, list) else [requests]
