"""Scores of all heads, and the head sets that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from jaxtyping import Float64

from alps.heads.geometry import Geometry, Head
from alps.heads.head_set import HeadSet, top


@dataclass(frozen=True)
class Scores:
    """A number for every head of a model.

    Attributes:
        values: float64, shape (num_layers, num_heads); larger means more changed.
        metric: What the numbers are.
        geometry: Shape of the model.
        base_hash: Content of the base checkpoint, if known.
        task_hash: Content of the task checkpoint, if known.
        provenance: How they were computed, and from what.
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
        return self.set_of(self.ranking()[: self.geometry.count(ratio)], ratio)

    def bottom(self, ratio: float) -> HeadSet:
        """The K heads of the lowest score: the least changed."""
        ranking = self.ranking(lowest_first=True)
        return self.set_of(ranking[: self.geometry.count(ratio)], ratio)

    def ranking(
        self, layers: Container[int] | None = None, lowest_first: bool = False
    ) -> list[Head]:
        """All heads by score; ties go to the lower layer.

        Args:
            layers: Only heads of these.
            lowest_first: The least changed heads first.
        """
        self.refuse_zeros()
        values = -self.values if lowest_first else self.values
        ranked = top(values.tolist(), self.geometry.total_heads)
        return [head for head in ranked if layers is None or head[0] in layers]

    def layer_matched(
        self, count: int, random: Random, layers: Container[int] | None = None
    ) -> list[Head]:
        """`count` heads drawn by chance, as many in each layer as the top `count` have there.

        What the top ones gain over them is not explained by their choice of layers.
        """
        in_layer = Counter(layer for layer, _ in self.ranking(layers)[:count])
        return [
            (layer, head)
            for layer in sorted(in_layer)
            for head in random.sample(range(self.geometry.num_heads), in_layer[layer])
        ]

    def set_of(self, heads: Sequence[Head], ratio: float) -> HeadSet:
        """Some heads, with these scores and where they came from."""
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

    def refuse_zeros(self) -> None:
        """Refuses a pair in which nothing changed.

        Raises:
            ValueError: If every score is zero.
        """
        if not self.values.any():
            raise ValueError(
                "base and task model have identical attention weights: "
                "every score is zero, so no head can be chosen"
            )
