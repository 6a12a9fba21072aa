"""Base class of methods that choose heads: number of heads, layers, and training plan."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from alps.heads.geometry import Geometry, Head
from alps.heads.head_set import HeadSet
from alps.methods.context import Context
from alps.methods.dense import Full
from alps.models.training_plan import TrainingPlan
from alps.settings.interfaces import KvPolicy, Method, Scope

Selector = Callable[[int], Sequence[Head]]
"""Maps a number of heads to that many chosen heads."""

DEPTHS = {"any": Fraction(1), "top_half": Fraction(1, 2), "top_third": Fraction(1, 3)}


@dataclass(frozen=True, kw_only=True)
class HeadMethod(Method):
    """Trains the Q/K/V rows of some heads, and by `scope` also everything outside Q/K/V.

    Attributes:
        ratio: Fraction of all heads (or of the Q/K/V weights, see `budget`), in (0, 1].
        scope: `rest_trains` (everything outside Q/K/V trains too) or `heads_only`.
        kv_policy: Whether a KV group trains that chosen and unchosen heads share.
        train_bias: Whether the biases of the chosen rows train too, where a model has some.
        budget: Unit of `ratio`: `heads`, as in the paper, or `params`, the trainable Q/K/V weights.
            The latter compares methods fairly that select different numbers of KV groups.
        depth: Layers that heads are chosen from: `any`, `top_half` or `top_third`. With
            `heads_only`, the backward pass stops at the lowest of them.
    """

    ratio: float
    scope: Scope
    kv_policy: KvPolicy = "any"
    train_bias: bool = False
    budget: Literal["heads", "params"] = "heads"
    depth: Literal["any", "top_half", "top_third"] = "any"

    def problems(self) -> Iterator[str]:
        """Error messages for invalid settings."""
        if self.ratio == 0:
            yield (
                f"ratio=0 leaves method={self.name} no head to train: "
                "use method=no_attn, which is the 0 % row of Table 3"
            )
        elif not 0 < self.ratio <= 1:
            yield f"ratio must lie in (0, 1], got {self.ratio}"

    def check(self, geometry: Geometry) -> None:
        """Refuses a depth with too few heads for the ratio."""
        wanted, available = (
            geometry.count(self.ratio),
            len(self.layers(geometry)) * geometry.num_heads,
        )
        if self.budget == "heads" and wanted > available:
            raise ValueError(
                f"ratio={self.ratio} asks for {wanted} heads, but method.depth={self.depth} leaves "
                f"{available}: lower the ratio or allow more layers"
            )

    def normalized(self) -> Method:
        """`full`, if all heads and the rest train: the two are one run."""
        everything = self.ratio == 1 and self.scope == "rest_trains" and self.kv_policy != "none"
        return Full(name="full") if everything and self.depth == "any" else self

    def layers(self, geometry: Geometry) -> range:
        """Layers that heads are chosen from."""
        count = math.ceil(geometry.num_layers * DEPTHS[self.depth])
        return range(geometry.num_layers - count, geometry.num_layers)

    @abstractmethod
    def selector(self, context: Context, layers: range) -> Selector:
        """The selection among these layers: a function from a number of heads to the heads."""

    def head_set(self, context: Context, heads: Sequence[Head]) -> HeadSet:
        """The chosen heads with their provenance."""
        return HeadSet(
            heads=tuple(heads),
            geometry=context.geometry,
            ratio=self.ratio,
            base_hash=context.base_hash,
        )

    def choose(self, context: Context) -> HeadSet:
        """Selects as many heads as the budget allows."""
        layers = self.layers(context.geometry)
        select = self.selector(context, layers)
        return self.head_set(context, select(self._count(select, context.geometry, layers)))

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Rows of the chosen heads, and the rest by scope."""
        return TrainingPlan.of_heads(heads, self.scope, self.kv_policy, self.train_bias)

    def _count(self, select: Selector, geometry: Geometry, layers: range) -> int:
        """K; with `params`, the largest K within the ratio, at least 1."""
        most = len(layers) * geometry.num_heads
        count = min(geometry.count(self.ratio), most)
        if self.budget == "heads":
            return count
        limit = float(Fraction(str(self.ratio)))

        def within_budget(count: int) -> bool:
            return geometry.qkv_share(select(count), self.kv_policy) <= limit

        while count > 1 and not within_budget(count):
            count -= 1
        while count < most and within_budget(count + 1):
            count += 1
        return count
