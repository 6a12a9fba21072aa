"""Shape of a grouped-query model's attention, and which rows of q, k and v belong to a head."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

Head = tuple[int, int]
"""(layer, head in layer), both counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Shape of a model's attention.

    Attributes:
        num_layers: Layers with attention.
        num_heads: Query heads in a layer.
        num_kv_heads: Key/value heads in a layer (KV groups).
        head_dim: Rows of one head in q_proj, and of one group in k_proj and v_proj.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} query heads cannot share {self.num_kv_heads} KV heads evenly"
            )

    @property
    def summary(self) -> str:
        """Sizes for error messages."""
        heads = f"{self.num_heads}/{self.num_kv_heads}"
        return f"{self.num_layers} layers of {heads} heads of {self.head_dim} rows"

    @property
    def total_heads(self) -> int:
        """All query heads of the model."""
        return self.num_layers * self.num_heads

    @property
    def group_size(self) -> int:
        """Query heads that share one KV group."""
        return self.num_heads // self.num_kv_heads

    def kv_group(self, head: int) -> int:
        """KV group of a query head (section 3.1's ceil formula, counted from 0)."""
        return head // self.group_size

    def heads(self) -> list[Head]:
        """All heads, layer by layer."""
        return [(layer, h) for layer in range(self.num_layers) for h in range(self.num_heads)]

    def query_rows(self, heads: Iterable[int]) -> list[int]:
        """Rows of q_proj that belong to these heads of one layer, ascending."""
        return _rows(heads, self.head_dim)

    @property
    def qkv_rows(self) -> int:
        """Rows of q, k and v in the whole model."""
        return self.num_layers * (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def kv_rows(self, heads: Iterable[int], policy: str) -> list[int]:
        """Rows of k_proj and v_proj that train when these heads of one layer are chosen.

        Args:
            heads: Chosen query heads of one layer.
            policy: A group trains if `any`, `all` or the `majority` (more than half) of its heads
                are chosen, or never (`none`).
        """
        chosen = Counter(self.kv_group(h) for h in set(heads))
        needed = {
            "any": 1,
            "all": self.group_size,
            "majority": self.group_size // 2 + 1,
            "none": self.group_size + 1,
        }[policy]
        return _rows((g for g, count in chosen.items() if count >= needed), self.head_dim)

    def qkv_share(self, heads: Iterable[Head], kv_policy: str) -> float:
        """Fraction of all Q/K/V weights that train with these heads, in [0, 1]."""
        layers: dict[int, list[int]] = defaultdict(list)
        for layer, head in heads:
            layers[layer].append(head)
        rows = sum(
            len(self.query_rows(chosen)) + 2 * len(self.kv_rows(chosen, kv_policy))
            for chosen in layers.values()
        )
        return rows / self.qkv_rows

    def count(self, ratio: float) -> int:
        """K = ceil(ratio * all heads), computed exactly for decimal ratios (Algorithm 1, line 7).

        Binary floats would give ceil(0.07 * 100) = 8.
        """
        return math.ceil(Fraction(str(ratio)) * self.total_heads)


def _rows(blocks: Iterable[int], height: int) -> list[int]:
    return [row for b in sorted(set(blocks)) for row in range(b * height, (b + 1) * height)]
