"""Heads ranked by how far the task model moved them (alps, kl, euclidean, cosine), and controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from alps.heads.geometry import Head
from alps.heads.head_set import HeadSet
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod, Selector
from alps.settings.run import TaskModel

if TYPE_CHECKING:
    from alps.localization.cache import CheckpointPair
    from alps.localization.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Scored(HeadMethod):
    """The heads of the highest score between base and task model (Algorithm 1).

    Attributes:
        metric: Name of a module in `alps.scores`.
        task_model: How the task model is obtained.
        matrix: Matrix of a head: `product` (eq. 5) or `concat`.
        bias: Whether biases of q, k and v count: `ignore` or `include`.
        compat: `authors` reproduces the authors' script, its defects included.
        options: Options of the metric (`tau`, `ground`, `direction`, `of`).
    """

    metric: str
    task_model: TaskModel
    matrix: Literal["product", "concat"] = "product"
    bias: Literal["ignore", "include"] = "ignore"
    compat: Literal["authors"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Error messages for invalid settings."""
        yield from super().problems()
        from alps.localization.request import authors_problems
        from alps.scores import option_problems

        wrong = list(option_problems(self.metric, self.options))
        yield from wrong
        if self.compat == "authors" and not wrong:
            yield from authors_problems([self.metric], self.options, self.bias)

    def selector(self, context: Context, layers: range) -> Selector:
        """Top-K of the scores."""
        ranking = self.scores(context).ranking(layers)
        return lambda count: ranking[:count]

    def head_set(self, context: Context, heads: Sequence[Head]) -> HeadSet:
        """The chosen heads with all scores."""
        return self.scores(context).head_set(heads, self.ratio)

    def scores(self, context: Context) -> Scores:
        """Scores of all heads, cached by the content of both checkpoints."""
        from alps.localization.cache import localize_cached

        assert context.task is not None and context.task_hash is not None
        pair = replace(
            self._pair(context.base_hash, context.task_hash),
            base=context.base,
            task=context.task,
            geometry=context.geometry,
        )
        return localize_cached(context.output_dir, pair, [self.metric])[self.metric]

    def cached_scores(self, output_dir: Path, base_hash: str, task_hash: str) -> Scores | None:
        """Cached scores of checkpoints with this content, or None; opens no checkpoint."""
        from alps.localization.cache import cached_scores

        return cached_scores(output_dir, self._pair(base_hash, task_hash), self.metric)

    def _pair(self, base_hash: str, task_hash: str) -> CheckpointPair:
        """A pair identified by content hashes alone."""
        from alps.localization.cache import CheckpointPair
        from alps.scores import non_default_options

        return CheckpointPair(
            base="",
            task="",
            base_hash=base_hash,
            task_hash=task_hash,
            matrix=self.matrix,
            bias=self.bias,
            compat=self.compat,
            options=non_default_options(self.options, [self.metric]),
        )


@dataclass(frozen=True, kw_only=True)
class Bottom(Scored):
    """Control: the heads of the lowest score."""

    def selector(self, context: Context, layers: range) -> Selector:
        """Bottom-K of the scores."""
        ranking = self.scores(context).ranking(layers, lowest_first=True)
        return lambda count: ranking[:count]


@dataclass(frozen=True, kw_only=True)
class LayerMatchedRandom(Scored):
    """Control: heads sampled at random, with as many per layer as the top K have."""

    def selector(self, context: Context, layers: range) -> Selector:
        """K heads, sampled with the run's seed."""
        scores = self.scores(context)
        seed = f"layer matched heads {context.seed}"
        return lambda count: scores.layer_matched(count, Random(seed), layers)
