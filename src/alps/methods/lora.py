"""Low-rank adapters on Q, K and V, everything else frozen (Hu et al., 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass

from alps.heads.head_set import HeadSet
from alps.models.architecture import LINEAR, QKV
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.settings.interfaces import Method


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """The paper's LoRA baseline.

    Attributes:
        rank: Rank of each adapter.
        alpha: Scale; the update is multiplied by alpha / rank.
        targets: Linear layers with an adapter.
    """

    rank: int = 128
    alpha: float = 128.0
    targets: tuple[str, ...] = QKV

    @property
    def freezes_rest(self) -> bool:
        """Only adapters train."""
        return True

    def problems(self) -> Iterator[str]:
        """Error messages for invalid settings."""
        if self.rank < 1:
            yield f"method.rank must be at least 1, got {self.rank}"
        unknown = [t for t in self.targets if t not in LINEAR]
        if unknown or not self.targets:
            yield f"method.targets must be one or more of {', '.join(LINEAR)}; got {unknown}"

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Adapters only."""
        return TrainingPlan(
            qkv="none",
            rest=False,
            lora=LoraShape(rank=self.rank, alpha=self.alpha, targets=self.targets),
        )
