"""ALPS: find the attention heads that a task needs, and train only those.

`alps.localize(base, task)` scores every head of a pair of checkpoints; see `alps.localization`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alps.heads import Geometry, HeadSet
    from alps.localization.engine import localize, localize_metrics
    from alps.localization.scored import Scores

__all__ = ["Geometry", "HeadSet", "Scores", "localize", "localize_metrics"]

_HOME = {
    "Geometry": "alps.heads",
    "HeadSet": "alps.heads",
    "Scores": "alps.localization.scored",
    "localize": "alps.localization.engine",
    "localize_metrics": "alps.localization.engine",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then: torch takes seconds."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
