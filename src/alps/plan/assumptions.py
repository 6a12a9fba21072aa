"""Assumptions of a plan: devices, their utilisation, and lengths of examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from alps.base.serialization import did_you_mean
from alps.settings.run import Weights

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """A training device.

    Attributes:
        memory: Memory in GiB.
        peak: Peak of 16-bit matrix products in TFLOP/s.
    """

    memory: float
    peak: float


@dataclass(frozen=True, kw_only=True)
class ExampleLength:
    """Lengths of a dataset's examples in tokens.

    Attributes:
        tokens: Mean.
        longest: Maximum, or None for the maximum allowed.
        counted: Whether the lengths were counted; else they are a guess.
    """

    tokens: float
    longest: int | None = None
    counted: bool = False


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """The settings of `alps plan` (conf/plan.yaml).

    Attributes:
        gpu: Name of the device, one of `gpus`.
        utilisation: Share of its peak that a training reaches, in (0, 1].
        node_devices: Devices of a node: `trainer.devices=auto` takes one, or all of them.
        weights: Weights to keep of finished runs that no planned run needs.
        format: `text`, or `json` for other programs.
        gpus: Name -> device.
        rows: Dataset -> lengths of its examples.
        other_rows: Lengths of any other dataset's examples.
        answer_share: Share of an example's tokens that belong to the answer, in (0, 1].
    """

    gpu: str
    utilisation: float
    node_devices: int
    weights: Weights
    format: Literal["text", "json"]
    gpus: Mapping[str, Device]
    rows: Mapping[str, ExampleLength]
    other_rows: ExampleLength
    answer_share: float

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        if self.gpu not in self.gpus:
            yield f"gpu={self.gpu} is not known{did_you_mean(self.gpu, self.gpus)}"
        if self.node_devices < 1:
            yield f"node_devices must be at least 1, got {self.node_devices}"
        for name in ("utilisation", "answer_share"):
            if not 0 < getattr(self, name) <= 1:
                yield f"{name} must lie in (0, 1], got {getattr(self, name)}"

    @property
    def device(self) -> Device:
        """The selected device."""
        return self.gpus[self.gpu]

    def lengths_of(self, data: str) -> ExampleLength:
        """Lengths of a dataset's examples."""
        return self.rows.get(data, self.other_rows)

    def hours(self, flops: float) -> float:
        """Device hours of these FLOPs."""
        return flops / (self.device.peak * 1e12 * self.utilisation) / 3600
