"""Methods without chosen heads: full fine-tuning, and all but Q/K/V."""

from dataclasses import dataclass

from alps.heads.head_set import HeadSet
from alps.models.training_plan import TrainingPlan
from alps.settings.interfaces import Method


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Every parameter trains (the paper's w/ full)."""

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Q/K/V and the rest."""
        return TrainingPlan(qkv="all", rest=True)


@dataclass(frozen=True, kw_only=True)
class NoAttention(Method):
    """Everything but Q/K/V trains (the paper's w/o attn)."""

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """The rest without Q/K/V."""
        return TrainingPlan(qkv="none", rest=True)
