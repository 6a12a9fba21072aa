"""Scores of all heads, and head sets derived from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from jaxtyping import Float64

from alps.heads.geometry import Geometry, Head
from alps.heads.head_set import HeadSet, top_heads


@dataclass(frozen=True)
class Scores:
    """Scores of every head of a model.

    Attributes:
        values: float64, shape (num_layers, num_heads); larger means more changed.
        metric: Name of the metric.
        geometry: Geometry of the model.
        base_hash: Content hash of the base checkpoint, if known.
        task_hash: Content hash of the task checkpoint, if known.
        provenance: Inputs and settings of the computation.
    """

    values: Float64[np.ndarray, "layers heads"]
    metric: str
    geometry: Geometry
    base_hash: str | None = None
    task_hash: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def top(self, ratio: float) -> HeadSet:
        """The K = ceil(ratio * all) heads of the highest score (Algorithm 1, lines 7 and 9).

        Raises:
            ValueError: If all scores are zero: the checkpoints are identical.
        """
        return self.head_set(self.ranking()[: self.geometry.count(ratio)], ratio)

    def bottom(self, ratio: float) -> HeadSet:
        """The K heads of the lowest score: the least changed."""
        ranking = self.ranking(lowest_first=True)
        return self.head_set(ranking[: self.geometry.count(ratio)], ratio)

    def ranking(
        self, layers: Container[int] | None = None, lowest_first: bool = False
    ) -> list[Head]:
        """All heads by score, highest first; ties go to the lower layer.

        Args:
            layers: Restricts the ranking to these layers.
            lowest_first: Ranks the least changed heads first.
        """
        self.check_nonzero()
        values = -self.values if lowest_first else self.values
        ranked = top_heads(values.tolist(), self.geometry.total_heads)
        return [head for head in ranked if layers is None or head[0] in layers]

    def layer_matched(
        self, count: int, random: Random, layers: Container[int] | None = None
    ) -> list[Head]:
        """`count` heads sampled at random, with as many per layer as the top `count` have.

        A control for the choice of layers: the advantage of the top heads over these is due to the
        ranking within layers.
        """
        in_layer = Counter(layer for layer, _ in self.ranking(layers)[:count])
        return [
            (layer, head)
            for layer in sorted(in_layer)
            for head in random.sample(range(self.geometry.num_heads), in_layer[layer])
        ]

    def head_set(self, heads: Sequence[Head], ratio: float) -> HeadSet:
        """A head set with these scores and their provenance."""
        return HeadSet(
            heads=tuple(heads),
            geometry=self.geometry,
            metric=self.metric,
            ratio=ratio,
            base_hash=self.base_hash,
            task_hash=self.task_hash,
            scores=tuple(map(tuple, self.values.tolist())),
            provenance=self.provenance,
        )

    def check_nonzero(self) -> None:
        """Refuses scores of identical checkpoints.

        Raises:
            ValueError: If every score is zero.
        """
        if not self.values.any():
            raise ValueError(
                "base and task model have identical attention weights: "
                "every score is zero, so no head can be chosen"
            )
