"""What a plan takes for granted: devices, how well they are used, and how long rows are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from alps.base.serialization import did_you_mean
from alps.settings.run import Weights

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """Something that trains.

    Attributes:
        memory: In GiB.
        peak: TFLOP/s of 16-bit matrix products.
    """

    memory: float
    peak: float


@dataclass(frozen=True, kw_only=True)
class ExampleLength:
    """How long the rows of a dataset are, in tokens.

    Attributes:
        tokens: On average.
        longest: The longest, or None for the longest that is allowed.
        counted: Whether somebody counted, or this is a guess.
    """

    tokens: float
    longest: int | None = None
    counted: bool = False


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """The settings of `alps plan` (conf/plan.yaml).

    Attributes:
        gpu: The device, a name in `gpus`.
        utilisation: Share of its peak that a training reaches, in (0, 1].
        node_devices: Devices that share a sharded run where `trainer.devices` says no other number.
        weights: What stays of a finished run's weights once nothing planned needs them.
        format: `text`, or `json` for other programs.
        gpus: Known devices.
        rows: Dataset -> length of its rows.
        other_rows: Of any other dataset.
        answer_share: Share of a row's tokens that belong to the answer, in (0, 1].
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
        """Sentences about settings that cannot be used."""
        if self.gpu not in self.gpus:
            yield f"gpu={self.gpu} is not known{did_you_mean(self.gpu, self.gpus)}"
        if self.node_devices < 2:
            yield f"node_devices must be at least 2, got {self.node_devices}"
        for name in ("utilisation", "answer_share"):
            if not 0 < getattr(self, name) <= 1:
                yield f"{name} must lie in (0, 1], got {getattr(self, name)}"

    @property
    def device(self) -> Device:
        """The one named."""
        return self.gpus[self.gpu]

    def rows_of(self, data: str) -> ExampleLength:
        """Length of the rows of a dataset."""
        return self.rows.get(data, self.other_rows)

    def hours(self, flops: float) -> float:
        """Device hours that so many operations take."""
        return flops / (self.device.peak * 1e12 * self.utilisation) / 3600
