"""Heads sampled at random: random and layer-consistent. No task model is needed.

The sample depends on the seed and the method's settings, not on the data: runs of one model and
seed on different data train the same heads, so that only several seeds show the variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from alps.heads.geometry import Geometry, Head
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod, Selector


@dataclass(frozen=True, kw_only=True)
class RandomHeads(HeadMethod):
    """K heads sampled uniformly from the whole model (the paper's Random)."""

    def selector(self, context: Context, layers: range) -> Selector:
        """K distinct heads."""
        allowed = [head for head in context.geometry.heads() if head[0] in layers]
        return lambda count: Random(f"random heads {context.seed}").sample(allowed, count)


@dataclass(frozen=True, kw_only=True)
class LayerConsistent(HeadMethod):
    """K heads spread evenly over the layers, sampled within each (the paper's LC)."""

    def selector(self, context: Context, layers: range) -> Selector:
        """K distinct heads, floor or ceil of K / layers in each layer."""

        def select(count: int) -> list[Head]:
            random = Random(f"layer heads {context.seed}")
            return layer_consistent(context.geometry, count, random, layers)

        return select


def layer_consistent(
    geometry: Geometry, count: int, random: Random, layers: Sequence[int] | None = None
) -> list[Head]:
    """`count` heads, spread over the layers as evenly as possible.

    The layers that get one head more are sampled, too.
    """
    layers = range(geometry.num_layers) if layers is None else layers
    per_layer, remainder = divmod(count, len(layers))
    extra = set(random.sample(layers, remainder))
    return [
        (layer, head)
        for layer in layers
        for head in random.sample(range(geometry.num_heads), per_layer + (layer in extra))
    ]
