"""Training plans before heads are chosen: as many heads, without a score."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from alps.heads.geometry import Geometry
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod
from alps.methods.sampled import LayerConsistent
from alps.models.training_plan import TrainingPlan
from alps.settings.interfaces import Method


def sampled_equivalent(method: Method) -> Method:
    """The method, or for a scored one a method that selects as many heads without scores.

    Its heads are spread over the layers and share fewer KV groups than scored ones, so the count of
    trainable rows is slightly too high.
    """
    if not (isinstance(method, HeadMethod) and hasattr(method, "task_model")):
        return method
    shared = {f.name: getattr(method, f.name) for f in fields(HeadMethod)}
    return LayerConsistent(**{**shared, "name": "spread"})


def expected_plan(method: Method, geometry: Geometry, seed: int) -> TrainingPlan:
    """Training plan of a method; for a scored one, of its `sampled_equivalent`."""
    method = sampled_equivalent(method)
    context = Context(geometry=geometry, seed=seed, base=Path(), base_hash="", output_dir=Path())
    return method.plan(method.choose(context))
