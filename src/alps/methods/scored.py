"""Heads ranked by how far the task model moved them: alps (PAD), kl, euclidean, cosine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules

import alps
from alps.heads import HeadSet
from alps.methods.context import Context
from alps.methods.head_method import HeadMethod
from alps.plain import did_you_mean
from alps.settings import TaskModel


@dataclass(frozen=True, kw_only=True)
class Scored(HeadMethod):
    """The heads of the highest score between base and task model (Algorithm 1).

    Attributes:
        metric: Name of a module in `alps.scores`.
        task_model: How the task model is obtained.
    """

    metric: str
    task_model: TaskModel

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        yield from super().problems()
        metrics = [m.name for m in iter_modules([str(Path(alps.__file__).with_name("scores"))])]
        if self.metric not in metrics:
            yield f"there is no metric {self.metric}{did_you_mean(self.metric, metrics)}"

    def choose(self, context: Context) -> HeadSet:
        """Top-K of the scores."""
        from alps.localization import localize_cached

        assert context.task is not None and context.task_hash is not None
        scores = localize_cached(
            context.output_dir,
            base=context.base,
            task=context.task,
            geometry=context.geometry,
            metric=self.metric,
            base_hash=context.base_hash,
            task_hash=context.task_hash,
        )
        return scores.top(self.ratio)
