"""The harness's task of one MMLU subject, made to hold the questions of all.

57 tasks would be 57 loads, and a rank may have no document of a small one. This module imports
lm-eval; settings do not import this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.samplers import FirstNSampler

from alps.evals.harness.specification import TaskInMemory


class MmluTask(TaskInMemory):
    """Shots, description and name of a request come from the subject of its document."""

    def __init__(self, config: dict[str, Any]):
        """Sorts the shots by subject."""
        self._texts: dict[tuple[str, ...], str] = {}
        super().__init__(config=config)
        shots: dict[str, list[Any]] = {}
        for row in self.dataset.get("shots", ()):
            shots.setdefault(row["subject"], []).append(row)
        self.samplers = {subject: FirstNSampler(rows) for subject, rows in shots.items()}

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> Any:
        """A question as text, written once: the harness compiles its template every time."""
        mark = (doc["subject"], doc["question"], *doc["choices"])
        if mark not in self._texts:
            self._texts[mark] = str(super().doc_to_text(doc, doc_to_text))
        return self._texts[mark]

    def fewshot_context(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, doc: dict[str, Any], num_fewshot: int, **options: Any
    ) -> Any:
        """The prompt, with the first shots of its subject.

        Raises:
            ValueError: If there are not so many.
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
        """Its choices; requests are named by subject, because prompts of one begin alike."""
        _, number, repeats = options.pop("metadata")
        name = f"mmlu_{doc['subject']}"
        made = super().construct_requests(doc, ctx, metadata=(name, number, repeats), **options)
        return made if isinstance(made, list) else [made]
