"""Heads sampled at random: random and layer-consistent. No task model is needed.

The draw follows from the seed and the settings of the method, never from the data: runs of one
model and seed on different data train the same heads, so only several seeds show its luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from alps.heads.geometry import Geometry, Head
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod, Picker


@dataclass(frozen=True, kw_only=True)
class RandomHeads(HeadMethod):
    """K heads drawn evenly from the whole model (the paper's Random)."""

    def picker(self, context: Context, layers: range) -> Picker:
        """K distinct heads."""
        allowed = [head for head in context.geometry.heads() if head[0] in layers]
        return lambda count: Random(f"random heads {context.seed}").sample(allowed, count)


@dataclass(frozen=True, kw_only=True)
class LayerConsistent(HeadMethod):
    """K heads spread evenly over the layers, drawn by chance inside each (the paper's LC)."""

    def picker(self, context: Context, layers: range) -> Picker:
        """K distinct heads, floor or ceil of K / layers in each layer."""

        def pick(count: int) -> list[Head]:
            random = Random(f"layer heads {context.seed}")
            return layer_consistent(context.geometry, count, random, layers)

        return pick


def layer_consistent(
    geometry: Geometry, count: int, random: Random, layers: Sequence[int] | None = None
) -> list[Head]:
    """`count` heads, as even over the layers as whole numbers allow.

    All layers have the same remainder, so which of them get one head more is drawn too.
    """
    layers = range(geometry.num_layers) if layers is None else layers
    each, left = divmod(count, len(layers))
    richer = set(random.sample(layers, left))
    return [
        (layer, head)
        for layer in layers
        for head in random.sample(range(geometry.num_heads), each + (layer in richer))
    ]
