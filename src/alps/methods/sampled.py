"""Heads drawn by chance: random and layer-consistent. A seed decides; no task model is needed."""

from dataclasses import dataclass
from random import Random

from alps.heads import Geometry, Head, HeadSet
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod


@dataclass(frozen=True, kw_only=True)
class RandomHeads(HeadMethod):
    """K heads drawn evenly from the whole model (the paper's Random)."""

    def choose(self, context: Context) -> HeadSet:
        """K distinct heads."""
        g = context.geometry
        heads = Random(f"random heads {context.seed}").sample(g.heads(), g.count(self.ratio))
        return HeadSet(
            heads=tuple(heads), geometry=g, ratio=self.ratio, base_hash=context.base_hash
        )


@dataclass(frozen=True, kw_only=True)
class LayerConsistent(HeadMethod):
    """K heads spread evenly over the layers, drawn by chance inside each (the paper's LC)."""

    def choose(self, context: Context) -> HeadSet:
        """K distinct heads, floor or ceil of K / layers in each layer."""
        g = context.geometry
        heads = layer_consistent(g, g.count(self.ratio), Random(f"layer heads {context.seed}"))
        return HeadSet(
            heads=tuple(heads), geometry=g, ratio=self.ratio, base_hash=context.base_hash
        )


def layer_consistent(geometry: Geometry, count: int, random: Random) -> list[Head]:
    """`count` heads, as even over the layers as whole numbers allow.

    All layers have the same remainder, so which of them get one head more is drawn too.
    """
    each, left = divmod(count, geometry.num_layers)
    richer = set(random.sample(range(geometry.num_layers), left))
    return [
        (layer, head)
        for layer in range(geometry.num_layers)
        for head in random.sample(range(geometry.num_heads), each + (layer in richer))
    ]
