"""ALPS: find the attention heads that a task needs, and train only those.

`alps.localize(base, task)` scores every head of a pair of checkpoints, `alps.apply(model, heads)`
makes some of them trainable in any loop, `alps.merge(model)` gives a plain model back.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alps.heads.geometry import Geometry
    from alps.heads.head_set import HeadSet
    from alps.localization.engine import localize, localize_metrics
    from alps.localization.scores import Scores
    from alps.models.apply import apply_heads as apply
    from alps.models.apply import merge_heads as merge

__all__ = ["Geometry", "HeadSet", "Scores", "apply", "localize", "localize_metrics", "merge"]

_HOME = {
    "apply": "alps.models.apply:apply_heads",
    "merge": "alps.models.apply:merge_heads",
    "Geometry": "alps.heads.head_set",
    "HeadSet": "alps.heads.head_set",
    "Scores": "alps.localization.scores",
    "localize": "alps.localization.engine",
    "localize_metrics": "alps.localization.engine",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then: torch takes seconds."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own_name = _HOME[name].partition(":")
    return getattr(import_module(module), own_name or name)
