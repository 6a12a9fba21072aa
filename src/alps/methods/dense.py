"""The two ends: everything trains, or everything but Q/K/V."""

from dataclasses import dataclass

from alps.heads.head_set import HeadSet
from alps.models.training_plan import Plan
from alps.settings.interfaces import Method


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Every parameter trains (the paper's w/ full)."""

    def plan(self, heads: HeadSet | None) -> Plan:
        """Q/K/V and the rest."""
        return Plan(qkv="all", rest=True)


@dataclass(frozen=True, kw_only=True)
class NoAttention(Method):
    """Everything but Q/K/V trains (the paper's w/o attn)."""

    def plan(self, heads: HeadSet | None) -> Plan:
        """The rest without Q/K/V."""
        return Plan(qkv="none", rest=True)
