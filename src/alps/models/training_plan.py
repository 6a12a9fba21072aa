"""Training plans: the trainable parameters, as chosen by a method and applied by `apply`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alps.heads.head_set import HeadSet
from alps.settings.interfaces import KvPolicy, Scope


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """Low-rank adapters of the linear layers in `targets`."""

    rank: int
    alpha: float
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The trainable parameters; all others are frozen and stay bit-equal.

    Attributes:
        qkv: `all` of Q/K/V, the rows of the chosen `heads`, or `none`.
        rest: Whether everything outside Q/K/V trains.
        heads: The chosen heads where `qkv` is `heads`.
        kv_policy: Whether a KV group trains that chosen and unchosen heads share.
        train_bias: Whether the biases of the chosen rows train, if there are any.
        lora: Adapters that train instead of the model's own weights.
    """

    qkv: Literal["all", "heads", "none"]
    rest: bool
    heads: HeadSet | None = None
    kv_policy: KvPolicy = "any"
    train_bias: bool = False
    lora: LoraShape | None = None

    @classmethod
    def of_heads(
        cls, heads: HeadSet | None, scope: Scope, kv_policy: KvPolicy, train_bias: bool = False
    ) -> TrainingPlan:
        """Rows of the chosen heads, and the rest by scope."""
        rest = scope == "rest_trains"
        return cls(qkv="heads", rest=rest, heads=heads, kv_policy=kv_policy, train_bias=train_bias)

    def __post_init__(self) -> None:
        assert (self.heads is not None) == (self.qkv == "heads"), "heads go with qkv='heads'"
