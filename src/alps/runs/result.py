"""`result.json`: settings and results of a run, with versions of code and packages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from alps.base.atomic import write_json
from alps.base.provenance import git_state, utc_now, versions
from alps.base.serialization import type_hints

SCHEMA_VERSION = 1


class RunFailed(RuntimeError):
    """A started run cannot go on; the message is one sentence."""


class MicroBatchTooLarge(RunFailed):
    """A training step ran out of memory; the next attempt has smaller micro-batches."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Settings and results of a run.

    Attributes:
        key: Name of the run's folder.
        model: Name of the base model.
        data: Name of the training data.
        method: Name of the method; `base` for an untrained model.
        ratio: Requested share of heads, or None if the method ignores it.
        scope: What trained besides heads, or None if the method ignores it.
        seed: Seed of the training.
        num_trainable: Trainable parameters.
        trainable_fraction: Trainable parameters over all parameters of the base model.
        qkv_fraction: Trainable parameters of Q/K/V, including their adapters, over all parameters
            of Q/K/V in the base model: the paper's `Attn%`. None in results of older versions.
        num_heads_selected: Chosen heads, or None for a method without heads.
        train_seconds: Wall time in optimizer steps, over all attempts.
        tokens_per_second: Input tokens (padding excluded) over `train_seconds`.
        peak_memory_bytes: Peak resident memory of the training process (on GPU: allocated memory of
            the device), of the rank with the highest.
        final_train_loss: Mean loss per answer token of the last tenth of the steps.
        precision: Precision that the trainer used.
        deviations: Sentences on settings that the trainer could not follow.
        evals: benchmark -> metric -> value.
        uncertainty: benchmark -> metric -> `stderr`, and `low` and `high` of the 95 % interval.
        versions: Package -> version.
        git_commit: Commit of the code, or None outside a checkout.
        git_dirty: Whether the code differed from that commit, or None.
        data_hash: Content hash of the training data.
        base_hash: Content hash of the base model.
        commits: Commits of model and data on the hub, for those from the hub.
        num_steps: Optimizer steps.
        num_examples: Training examples used.
        num_dropped: Training examples left out for a reason other than a requested subset.
        dropped: Reason -> their number.
        num_truncated: Training examples with a truncated instruction.
        devices: Number of ranks.
        num_nodes: Number of machines.
        strategy: How the ranks shared the training: `single`, `ddp` or `fsdp`.
        flops_per_token_forward: FLOPs of a forward pass (`alps.cost`), a multiply-add counted as 2.
        flops_per_token_backward: FLOPs of a backward pass.
        flops_vs_full: FLOPs of a step over those of full fine-tuning on the same examples.
        predicted_memory_bytes: The same, as predicted by `alps.cost`.
        micro_batch_size: Examples per forward pass and device.
        score_mass: Share of the sum of all scores that lies in the chosen heads.
        finished_at: UTC time.
        schema_version: Version of this file's schema.
    """

    key: str
    model: str
    data: str
    method: str
    ratio: float | None = None
    scope: str | None = None
    seed: int | None = None
    num_trainable: int
    trainable_fraction: float
    qkv_fraction: float | None = None
    num_heads_selected: int | None = None
    train_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    final_train_loss: float | None = None
    precision: str | None = None
    deviations: Sequence[str] = field(default_factory=list)
    evals: Mapping[str, Mapping[str, float]]
    uncertainty: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    data_hash: str
    base_hash: str
    commits: Mapping[str, str] | None = None
    num_steps: int | None = None
    num_examples: int | None = None
    num_dropped: int | None = None
    dropped: Mapping[str, int] | None = None
    num_truncated: int | None = None
    devices: int | None = None
    num_nodes: int | None = None
    strategy: str | None = None
    flops_per_token_forward: float | None = None
    flops_per_token_backward: float | None = None
    flops_vs_full: float | None = None
    predicted_memory_bytes: int | None = None
    micro_batch_size: int | None = None
    score_mass: float | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    git_commit: str | None = field(default_factory=lambda: git_state()[0])
    git_dirty: bool | None = field(default_factory=lambda: git_state()[1])
    finished_at: str = field(default_factory=lambda: utc_now())
    schema_version: int = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Writes `result.json` atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Reads a `result.json`.

        Raises:
            RunFailed: If it is damaged or has another schema.
        """
        try:
            plain = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RunFailed(f"{path} is damaged ({error}); delete it to make it again") from None
        if not isinstance(plain, dict):
            raise RunFailed(f"{path} is damaged (no JSON object); delete it to make it again")
        if plain.get("schema_version") != SCHEMA_VERSION:
            raise RunFailed(
                f"{path} has schema {plain.get('schema_version')}, this version reads "
                f"{SCHEMA_VERSION}; delete it to make it again"
            )
        known = {f.name for f in fields(cls)}
        try:
            found = cls(**{k: v for k, v in plain.items() if k in known})
            for name, hint in type_hints(cls).items():
                if not _fits(value := getattr(found, name), hint):
                    raise TypeError(f"{name} is {value!r}")
            for metric, value in (m for ms in found.evals.values() for m in ms.items()):
                if not isinstance(value, int | float):
                    raise TypeError(f"{metric} is {value!r}")
            return found
        except (TypeError, AttributeError) as error:
            raise RunFailed(f"{path} is damaged ({error}); delete it to make it again") from None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type of a field; values of mappings may be None."""
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Mapping:
        each = get_args(hint)[1] | NoneType
        return isinstance(value, Mapping) and all(_fits(v, each) for v in value.values())
    if get_origin(hint) is Sequence:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    return isinstance(value, int | float if hint in (int, float) else hint)
