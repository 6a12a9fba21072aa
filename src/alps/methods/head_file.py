"""Heads from a `heads.json`, written by `alps localize`, another run or the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alps.base.key import excluded_from_key
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.methods.context import Context
from alps.models.training_plan import TrainingPlan
from alps.settings.interfaces import KvPolicy, Method, Scope


@dataclass(frozen=True, kw_only=True)
class Given(Method):
    """Trains the heads of a `heads.json`.

    Attributes:
        path: The file.
        scope: `rest_trains` (everything outside Q/K/V trains too) or `heads_only`.
        kv_policy: Whether a KV group trains that chosen and unchosen heads share.
        train_bias: Whether the biases of the chosen rows train too, in models that have some.
    """

    path: str | None = excluded_from_key()
    scope: Scope
    kv_policy: KvPolicy = "any"
    train_bias: bool = False

    def problems(self) -> Iterator[str]:
        """Error messages for invalid settings."""
        if self.path is None:
            yield f"method={self.name} needs method.path=<a heads.json>"
            return
        try:
            HeadSet.read(Path(self.path))
        except OSError as error:
            yield f"method.path={self.path} cannot be read ({error.strerror})"
        except ValueError as error:
            yield str(error)

    def fingerprint(self) -> list[list[int]]:
        """The heads: two files with the same heads give one run key."""
        return [list(head) for head in self._heads().heads]

    def check(self, geometry: Geometry) -> None:
        """Refuses heads of another geometry."""
        self._heads().check_geometry(geometry)

    def choose(self, context: Context) -> HeadSet:
        """The heads of the file.

        Raises:
            ValueError: If they were chosen for another base model.
        """
        heads = self._heads()
        heads.check_base(context.base_hash)
        return heads

    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Rows of the heads, and the rest by scope."""
        return TrainingPlan.of_heads(heads, self.scope, self.kv_policy, self.train_bias)

    def _heads(self) -> HeadSet:
        assert self.path is not None
        return HeadSet.read(Path(self.path))
