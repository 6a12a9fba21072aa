"""Scores of one head: pure functions of its base and its task matrix, one file each.

A metric is a module here with a function `score(base, task) -> float` in which larger means *more
changed*; its name in `method.metric` is the module's name.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from jaxtyping import Float
from torch import Tensor

Score = Callable[[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]], float]


def names() -> list[str]:
    """All metrics that exist."""
    return sorted(m.name for m in iter_modules(__path__))


def load(metric: str) -> Score:
    """The score function of a metric.

    Raises:
        ValueError: If there is no such metric.
    """
    if metric not in names():
        raise ValueError(f"there is no metric {metric!r} (one of: {', '.join(names())})")
    return import_module(f"{__name__}.{metric}").score
