"""One attention head in two checkpoints, with the intermediate sums that several scores share.

Arrays are float64. Flattened in column-major order, they are the head's matrix as the scores see it
(`alps.localization.head_pairs` defines that order). Sums are taken over the change of each entry:
the difference of two large sums would cancel the digits of a small change.
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
"""Entries in a block of rows: 512 KiB."""

LARGE_CHANGE = 1.0
"""Above this change (over tau), two ordinary softmaxes lose no precision."""


class Segment:
    """A segment of a head's flattened matrix; all heads of a KV group share those of K and V."""

    def __init__(self, base: Array, task: Array, shared: bool = False):
        """Stores the weights of both checkpoints.

        Args:
            base: Weights of the base model.
            task: Weights of the task model, same shape.
            shared: Whether other heads use this object, so that its cumulative sums are cached.
        """
        self.base, self.task, self.shared = base, task, shared
        self._exponentials: dict[float, Exponentials] = {}

    def changes(self) -> Iterator[tuple[slice, Array]]:
        """Slices of rows with their change (task minus base), block by block."""
        for rows in row_blocks(self.base):
            yield rows, self.task[rows] - self.base[rows]

    @cached_property
    def inner_products(self) -> tuple[float, float, float]:
        """Sums of base x base, base x change and change x change."""
        sums = np.zeros(3)
        for rows, block in self.changes():
            base, change = self.base[rows].ravel(), block.ravel()
            sums += base @ base, base @ change, change @ change
        base, mixed, change = sums.tolist()
        return base, mixed, change

    def exponentials(self, tau: float) -> Exponentials:
        """Its entries of the tempered softmaxes (eq. 6), not yet normalized."""
        if tau not in self._exponentials:
            self._exponentials[tau] = self._compute_exponentials(tau)
        return self._exponentials[tau]

    @np.errstate(over="ignore", invalid="ignore")  # of changes beyond `LARGE_CHANGE`
    def _compute_exponentials(self, tau: float) -> Exponentials:
        mass, increase = np.empty_like(self.base), np.empty_like(self.base)
        columns, products = np.zeros((2, self.base.shape[1])), np.zeros(3)
        shift = float(self.base.max()) / tau
        weighted, small = 0.0, True
        for rows, change in self.changes():
            if tau != 1:
                change /= tau
            here, more = mass[rows], increase[rows]
            np.subtract(self.base[rows] if tau == 1 else self.base[rows] / tau, shift, out=here)
            np.exp(here, out=here)
            np.expm1(change, out=more)
            more *= here
            columns += here.sum(axis=0), more.sum(axis=0)
            flat, masses, gains = change.ravel(), here.ravel(), more.ravel()
            weighted += float(masses @ flat)
            products += masses @ masses, masses @ gains, gains @ gains
            # The norm is a cheap bound of the largest entry.
            small &= bool(flat @ flat <= LARGE_CHANGE**2 or np.abs(flat).max() <= LARGE_CHANGE)
        if self.shared:
            cumulative_sums(mass)
            cumulative_sums(increase)
        return Exponentials(
            mass, increase, columns[0], columns[1], products.tolist(), shift, weighted, small
        )


@dataclass
class Exponentials:
    """Exponentials of a segment.

    Attributes:
        mass: exp(base / tau - shift); its cumulative sums if the segment is shared.
        increase: exp(task / tau - shift) - mass, computed from the change; likewise.
        column_mass: Column sums of the mass.
        column_increase: Column sums of the increase.
        inner_products: Sums of mass x mass, mass x increase and increase x increase.
        shift: Largest base / tau, subtracted to avoid overflow.
        weighted_change: Sum of mass x change / tau.
        small: Whether no entry changed by more than `LARGE_CHANGE` x tau.
    """

    mass: Array
    increase: Array
    column_mass: Float64[np.ndarray, " columns"]
    column_increase: Float64[np.ndarray, " columns"]
    inner_products: Sequence[float]
    shift: float
    weighted_change: float
    small: bool


class HeadPair:
    """A head's flattened matrix in base and task model, as the concatenation of segments."""

    def __init__(self, *segments: Segment):
        """Concatenates segments."""
        self.segments: Sequence[Segment] = segments

    @classmethod
    def of(cls, base: ArrayLike, task: ArrayLike) -> HeadPair:
        """A head with one segment, from matrices that are flattened in row-major order."""
        return cls(Segment(np.asarray(base, np.float64).T, np.asarray(task, np.float64).T))

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(segment.base.size for segment in self.segments)

    def swapped(self) -> HeadPair:
        """The same head with base and task exchanged."""
        return HeadPair(*(Segment(s.task, s.base) for s in self.segments))

    def flat(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """The flattened matrices of base and task."""
        base = np.concatenate([segment.base.ravel("F") for segment in self.segments])
        return base, np.concatenate([segment.task.ravel("F") for segment in self.segments])

    def softmax(self, tau: float) -> SoftmaxChange | None:
        """The tempered softmax of the base and its change.

        Returns:
            None if the change is large; then two ordinary softmaxes lose no precision.
        """
        exponentials = [segment.exponentials(tau) for segment in self.segments]
        if not all(e.small for e in exponentials):
            return None
        top = max(e.shift for e in exponentials)
        weights = [math.exp(e.shift - top) for e in exponentials]
        pairs = list(zip(weights, exponentials, strict=True))
        total = sum(w * float(e.column_mass.sum()) for w, e in pairs)
        increase = sum(w * float(e.column_increase.sum()) for w, e in pairs)
        return SoftmaxChange(exponentials, weights, total, increase / total)


@dataclass
class SoftmaxChange:
    """Softmax of a head in the base model, and its change in the task model.

    Attributes:
        exponentials: Exponentials of each segment.
        weights: Factor of each segment that brings it to the common shift.
        total: Normalizer of the base under that shift.
        growth: Relative increase of the normalizer in the task model.
    """

    exponentials: Sequence[Exponentials]
    weights: Sequence[float]
    total: float
    growth: float


def row_blocks(x: Array) -> Iterator[slice]:
    """Slices of rows that fit into a core's cache."""
    height = max(1, BLOCK // x.shape[1])
    return (slice(first, first + height) for first in range(0, len(x), height))


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialized float64 array, aligned to 64 bytes.

    BLAS's asum first adds the entries before such a boundary, so that without alignment the
    rounding of a score would depend on the address of an array.
    """
    size = math.prod(shape)
    memory = np.empty(size + 7)
    first = -memory.ctypes.data // 8 % 8
    return memory[first : first + size].reshape(shape)


def cumulative_sums(x: Array, before: Float64[np.ndarray, " columns"] | None = None) -> Array:
    """Cumulative sums in column-major order, in place.

    Adds whole rows, which is several times faster than adding entries one by one.

    Args:
        x: The summands.
        before: Cumulative sum at the start of each column; computed if None.
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
