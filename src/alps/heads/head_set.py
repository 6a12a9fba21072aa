"""Head sets: the chosen attention heads of a model, and their file format `heads.json`."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alps.heads.geometry import Geometry, Head


@dataclass(frozen=True, kw_only=True)
class HeadSet:
    """The chosen heads of one model, with their provenance.

    Attributes:
        heads: Chosen heads, sorted by layer and head.
        geometry: Shape of the model they belong to.
        metric: Score that ranked them, or None if they were not ranked.
        ratio: Requested share of all heads.
        base_hash: Content hash of the base model.
        task_hash: Content hash of the task model, or None.
        scores: Scores of all heads, (num_layers, num_heads), if they were ranked.
        provenance: Further information on how the set was computed.
    """

    heads: tuple[Head, ...]
    geometry: Geometry
    metric: str | None = None
    ratio: float | None = None
    base_hash: str | None = None
    task_hash: str | None = None
    scores: tuple[tuple[float, ...], ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(sorted((int(a), int(b)) for a, b in self.heads)))
        if not self.heads:
            raise ValueError("a head set must hold at least one head")
        if len(set(self.heads)) < len(self.heads):
            raise ValueError("a head set must not name a head twice")
        g = self.geometry
        for layer, head in self.heads:
            if not (0 <= layer < g.num_layers and 0 <= head < g.num_heads):
                raise ValueError(
                    f"head ({layer}, {head}) lies outside a model of {g.num_layers} layers "
                    f"with {g.num_heads} heads"
                )
        if self.scores is not None:
            object.__setattr__(self, "scores", tuple(tuple(map(float, row)) for row in self.scores))
            if [len(row) for row in self.scores] != [g.num_heads] * g.num_layers:
                raise ValueError(f"the scores are not {g.num_layers} rows of {g.num_heads} numbers")

    def by_layer(self) -> Mapping[int, list[int]]:
        """Chosen heads by layer; layers without any are omitted."""
        layers: dict[int, list[int]] = defaultdict(list)
        for layer, head in self.heads:
            layers[layer].append(head)
        return dict(layers)

    def check_geometry(self, geometry: Geometry) -> None:
        """Refuses a model whose attention has another shape.

        Raises:
            ValueError: One sentence.
        """
        if geometry != self.geometry:
            raise ValueError(
                f"these heads belong to a model of {self.geometry}, this one has {geometry}: "
                "choose heads for this model (alps localize)"
            )

    def check_base(self, base_hash: str) -> None:
        """Refuses another base model, where both content hashes are known.

        Raises:
            ValueError: One sentence.
        """
        own = self.base_hash or ""
        known = all(re.fullmatch("[0-9a-f]{64}", h) for h in (own, base_hash))
        if known and own != base_hash:
            raise ValueError(
                f"these heads were chosen for another base model ({own[:12]}, this one is "
                f"{base_hash[:12]}): choose heads for this model (alps localize)"
            )

    def qkv_share(self, kv_policy: str = "any") -> float:
        """Share of all Q/K/V weights that train with this set, in [0, 1].

        Larger than the share of heads where heads share keys and values.
        """
        return self.geometry.qkv_share(self.heads, kv_policy)

    def score_mass(self) -> float | None:
        """Sum of the chosen heads' scores over that of all, in [0, 1]; None without scores."""
        if self.scores is None:
            return None
        total = sum(map(sum, self.scores))
        chosen = sum(self.scores[layer][head] for layer, head in self.heads)
        return chosen / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields of the set and of its geometry in one flat mapping."""
        fields = {k: v for k, v in asdict(self).items() if k != "geometry"}
        return {**fields, "heads": [list(h) for h in self.heads], **asdict(self.geometry)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HeadSet:
        """The inverse of `to_json`.

        Raises:
            ValueError: If a field is missing or a head lies outside the geometry.
        """
        try:
            geometry = Geometry(
                **{
                    k: int(fields[k])
                    for k in ("num_layers", "num_heads", "num_kv_heads", "head_dim")
                }
            )
            names = ("metric", "ratio", "base_hash", "task_hash", "scores")
            rest = {k: fields.get(k) for k in names}
            heads = tuple((a, b) for a, b in fields["heads"])
            provenance = fields.get("provenance") or {}
            return cls(heads=heads, geometry=geometry, provenance=provenance, **rest)
        except KeyError as missing:
            raise ValueError(f"the head set lacks the field {missing}") from None

    @classmethod
    def read(cls, path: Path) -> HeadSet:
        """Reads a `heads.json`."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is no head set: {error}") from None


def top_heads(scores: Sequence[Sequence[float]], count: int) -> list[Head]:
    """The `count` heads of the highest score (Algorithm 1, line 9); ties go to the lower layer.

    Args:
        scores: Finite numbers, (num_layers, num_heads).
        count: K.
    """
    ranked = sorted(
        ((-score, layer, h) for layer, row in enumerate(scores) for h, score in enumerate(row))
    )
    return [(layer, h) for _, layer, h in ranked[:count]]
