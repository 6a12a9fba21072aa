"""How many devices of a node a training takes, by its predicted memory.

Replicating a model (DDP) saves no memory, so a training that fits no single device is sharded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Devices of a node for one training.

    Attributes:
        devices: Number of devices on each node.
        strategy: How they share the training, if they are several.
    """

    devices: int
    strategy: Literal["ddp", "fsdp"]


def place(peak: Callable[[int], int], budget: int, num_devices: int) -> Placement:
    """One device if an example per forward pass fits, else all devices, sharded.

    Args:
        peak: Examples per forward pass -> predicted peak bytes of an unsharded training.
        budget: Usable bytes of a device.
        num_devices: Devices of the node.
    """
    if peak(1) <= budget:
        return Placement(devices=1, strategy="ddp")
    return Placement(devices=num_devices, strategy="fsdp")
