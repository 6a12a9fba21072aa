"""One attention head in two checkpoints, and what several scores need of it, computed once.

Arrays are float64 and are read down their columns: the first column from top to bottom, then the
next. Read like that, they are the head's matrix flattened (`alps.localization.head_pairs` says in
which order). A small change of large weights is never the difference of two large sums here, so a
score keeps its digits: it is the change that is summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

Array = Float64[np.ndarray, "rows columns"]

BLOCK = 2**16
"""Entries of a block: 512 KiB."""

PLAIN_ABOVE = 1.0
"""Changes (over tau) beyond this are no small shift; plain softmaxes then lose nothing."""


class Part:
    """A piece of a head's flattened matrix; those of K and V are shared by a group's heads."""

    def __init__(self, base: Array, task: Array, shared: bool = False):
        """Holds the weights of both checkpoints.

        Args:
            base: Weights of the base model.
            task: Weights of the task model, same shape.
            shared: Whether other heads hold this very part, so that its sums are worth keeping.
        """
        self.base, self.task, self.shared = base, task, shared
        self._soft: dict[float, Soft] = {}

    def changes(self) -> Iterator[tuple[slice, Array]]:
        """Rows, and their change (task minus base), block by block."""
        for rows in blocks(self.base):
            yield rows, self.task[rows] - self.base[rows]

    @cached_property
    def moments(self) -> tuple[float, float, float]:
        """Sums of base x base, base x change and change x change."""
        sums = np.zeros(3)
        for rows, block in self.changes():
            base, change = self.base[rows].ravel(), block.ravel()
            sums += base @ base, base @ change, change @ change
        base, mixed, change = sums.tolist()
        return base, mixed, change

    def soft(self, tau: float) -> Soft:
        """Its share of the tempered softmaxes (eq. 6), before they are divided by their sums."""
        if tau not in self._soft:
            self._soft[tau] = self._exponentials(tau)
        return self._soft[tau]

    @np.errstate(over="ignore", invalid="ignore")  # of changes beyond `PLAIN_ABOVE`
    def _exponentials(self, tau: float) -> Soft:
        mass, gained = np.empty_like(self.base), np.empty_like(self.base)
        columns, moments = np.zeros((2, self.base.shape[1])), np.zeros(3)
        shift = float(self.base.max()) / tau
        weighted, small = 0.0, True
        for rows, change in self.changes():
            if tau != 1:
                change /= tau
            here, more = mass[rows], gained[rows]
            np.subtract(self.base[rows] if tau == 1 else self.base[rows] / tau, shift, out=here)
            np.exp(here, out=here)
            np.expm1(change, out=more)
            more *= here
            columns += here.sum(axis=0), more.sum(axis=0)
            flat, masses, gains = change.ravel(), here.ravel(), more.ravel()
            weighted += float(masses @ flat)
            moments += masses @ masses, masses @ gains, gains @ gains
            # the norm bounds the largest entry and costs less
            small &= bool(flat @ flat <= PLAIN_ABOVE**2 or np.abs(flat).max() <= PLAIN_ABOVE)
        if self.shared:
            running_sums(mass)
            running_sums(gained)
        return Soft(mass, gained, columns[0], columns[1], moments.tolist(), shift, weighted, small)


@dataclass
class Soft:
    """Exponentials of a part.

    Attributes:
        mass: exp(base / tau - shift); of a shared part, running sums of it.
        gained: exp(task / tau - shift) - mass, computed from the change; likewise.
        column_mass: Sums of the columns of the exponentials.
        column_gained: Sums of the columns of what was gained.
        moments: Sums of mass x mass, mass x gained and gained x gained.
        shift: Largest base / tau, which keeps the exponentials in range.
        weighted_change: Sum of mass x change / tau.
        small: Whether no entry changed by more than `PLAIN_ABOVE` tau.
    """

    mass: Array
    gained: Array
    column_mass: Float64[np.ndarray, " columns"]
    column_gained: Float64[np.ndarray, " columns"]
    moments: Sequence[float]
    shift: float
    weighted_change: float
    small: bool


class HeadPair:
    """A head's matrix in base and task model, as parts that follow one another."""

    def __init__(self, *parts: Part):
        """Puts the parts together."""
        self.parts: Sequence[Part] = parts

    @classmethod
    def of(cls, base: ArrayLike, task: ArrayLike) -> HeadPair:
        """A head of one part, from matrices that are flattened row after row (C order)."""
        return cls(Part(np.asarray(base, np.float64).T, np.asarray(task, np.float64).T))

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(part.base.size for part in self.parts)

    def swapped(self) -> HeadPair:
        """The same head with base and task exchanged."""
        return HeadPair(*(Part(part.task, part.base) for part in self.parts))

    def flat(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Base and task, flattened in reading order."""
        base = np.concatenate([part.base.ravel("F") for part in self.parts])
        return base, np.concatenate([part.task.ravel("F") for part in self.parts])

    def softmax(self, tau: float) -> Softmax | None:
        """The tempered softmaxes of base and task, as one and its change.

        Returns:
            None if the change is not small; nothing is lost then by two plain softmaxes.
        """
        softs = [part.soft(tau) for part in self.parts]
        if not all(soft.small for soft in softs):
            return None
        top = max(soft.shift for soft in softs)
        weights = [math.exp(soft.shift - top) for soft in softs]
        pairs = list(zip(weights, softs, strict=True))
        total = sum(w * float(soft.column_mass.sum()) for w, soft in pairs)
        gained = sum(w * float(soft.column_gained.sum()) for w, soft in pairs)
        return Softmax(softs, weights, total, gained / total)


@dataclass
class Softmax:
    """Softmax of a head in the base model, and what the task's has more.

    Attributes:
        softs: Exponentials of each part.
        weights: What brings each part to the common shift.
        total: Sum of the base's mass under that shift.
        growth: What the sum of the task's mass has more, over `total`.
    """

    softs: Sequence[Soft]
    weights: Sequence[float]
    total: float
    growth: float


def blocks(x: Array) -> Iterator[slice]:
    """Rows of an array, in pieces that stay in a core's cache."""
    height = max(1, BLOCK // x.shape[1])
    return (slice(first, first + height) for first in range(0, len(x), height))


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """A float64 array of any numbers, which begins at a multiple of 64 bytes.

    BLAS's sum of sizes begins with what lies before such a boundary, so elsewhere the rounding of
    a score would follow the address of an array.
    """
    size = math.prod(shape)
    memory = np.empty(size + 7)
    first = -memory.ctypes.data // 8 % 8
    return memory[first : first + size].reshape(shape)


def running_sums(x: Array, before: Float64[np.ndarray, " columns"] | None = None) -> Array:
    """Sums of all entries up to each, in reading order; replaces `x`.

    Row after row, many columns at a time: several times faster than entry after entry.

    Args:
        x: What is summed.
        before: What has been summed when each column begins; computed if not given.
    """
    rows, columns = x.shape
    if before is None:
        sums = x.sum(axis=0)
        before = np.cumsum(sums) - sums
    x[0] += before
    if columns == 1:
        import torch  # numpy's cumsum takes four times as long

        flat = torch.from_numpy(x[:, 0])
        torch.cumsum(flat, 0, out=flat)
        return x
    for row in range(1, rows):
        np.add(x[row], x[row - 1], out=x[row])
    return x
