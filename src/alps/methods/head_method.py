"""What all methods that choose heads share: how many, where, and what trains with them."""

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

Picker = Callable[[int], Sequence[Head]]
"""The heads a method chooses when it may choose so many."""

DEPTHS = {"any": Fraction(1), "top_half": Fraction(1, 2), "top_third": Fraction(1, 3)}


@dataclass(frozen=True, kw_only=True)
class HeadMethod(Method):
    """Trains the Q/K/V rows of some heads, and by `scope` also everything outside Q/K/V.

    Attributes:
        ratio: Share of all heads (or of the Q/K/V weights, by `budget`), in (0, 1].
        scope: `rest_trains` (everything outside Q/K/V trains too) or `heads_only`.
        kv_policy: When a KV group trains that chosen and unchosen heads share.
        train_bias: Whether the biases of the chosen rows train too, where a model has some.
        budget: What `ratio` counts: `heads`, as the paper does, or `params`, the Q/K/V weights that
            then train, which makes methods comparable whose heads share KV groups unequally.
        depth: Layers that may hold chosen heads: `any`, `top_half` or `top_third`. Below the lowest
            of them nothing trains under `heads_only`, so the backward pass stops there.
    """

    ratio: float
    scope: Scope
    kv_policy: KvPolicy = "any"
    train_bias: bool = False
    budget: Literal["heads", "params"] = "heads"
    depth: Literal["any", "top_half", "top_third"] = "any"

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.ratio == 0:
            yield (
                f"ratio=0 leaves method={self.name} no head to train: "
                "use method=no_attn, which is the 0 % row of Table 3"
            )
        elif not 0 < self.ratio <= 1:
            yield f"ratio must lie in (0, 1], got {self.ratio}"

    def check(self, geometry: Geometry) -> None:
        """Refuses a depth that cannot hold the heads asked for."""
        wanted, room = geometry.count(self.ratio), len(self.layers(geometry)) * geometry.num_heads
        if self.budget == "heads" and wanted > room:
            raise ValueError(
                f"ratio={self.ratio} asks for {wanted} heads, but method.depth={self.depth} leaves "
                f"{room}: lower the ratio or allow more layers"
            )

    def normalized(self) -> Method:
        """All heads and all the rest are everything: ratio 1 under rest_trains is `full`."""
        everything = self.ratio == 1 and self.scope == "rest_trains" and self.kv_policy != "none"
        return Full(name="full") if everything and self.depth == "any" else self

    def layers(self, geometry: Geometry) -> range:
        """Layers that may hold chosen heads."""
        count = math.ceil(geometry.num_layers * DEPTHS[self.depth])
        return range(geometry.num_layers - count, geometry.num_layers)

    @abstractmethod
    def picker(self, context: Context, layers: range) -> Picker:
        """How this method chooses `count` heads in these layers."""

    def head_set(self, context: Context, heads: Sequence[Head]) -> HeadSet:
        """The chosen heads with where they came from."""
        return HeadSet(
            heads=tuple(heads),
            geometry=context.geometry,
            ratio=self.ratio,
            base_hash=context.base_hash,
        )

    def choose(self, context: Context) -> HeadSet:
        """As many heads as the budget allows."""
        layers = self.layers(context.geometry)
        pick = self.picker(context, layers)
        return self.head_set(context, pick(self._count(pick, context.geometry, layers)))

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Rows of the chosen heads, and the rest by scope."""
        return TrainingPlan.of_heads(heads, self.scope, self.kv_policy, self.train_bias)

    def _count(self, pick: Picker, geometry: Geometry, layers: range) -> int:
        """K; under `params`, the largest that stays within the ratio (at least 1)."""
        most = len(layers) * geometry.num_heads
        count = min(geometry.count(self.ratio), most)
        if self.budget == "heads":
            return count
        limit = float(Fraction(str(self.ratio)))

        def fits(count: int) -> bool:
            return geometry.qkv_share(pick(count), self.kv_policy) <= limit

        while count > 1 and not fits(count):
            count -= 1
        while count < most and fits(count + 1):
            count += 1
        return count
