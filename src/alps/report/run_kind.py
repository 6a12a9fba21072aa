"""The kind of a run: model, method, ratio and task model; runs of one kind share a table row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from alps.base.serialization import TARGET, to_dict
from alps.report.style import MethodStyle
from alps.settings.run import Run

BASE = "base"
"""Method of the rows of base models, which are evaluated without training."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the runs of a table row have in common.

    Attributes:
        model: Name of the base model.
        method: Name of the method, or `base`.
        ratio: Share of heads, for methods that have one.
        task_model: Choice in `conf/task_model`, for methods that have one.
    """

    model: str
    method: str
    ratio: float | None = None
    task_model: str | None = None

    def label(self, styles: Mapping[str, MethodStyle]) -> str:
        """Label where the paper has none: method, ratio and an unusual task model."""
        style = styles.get(self.method)
        name = style.label if style and style.label else self.method
        ratio = "" if self.ratio is None else f", {100 * self.ratio:g}%"
        unusual = self.task_model not in (None, "sft")
        return name + ratio + f", {self.task_model}" * unusual


def kind_of(run: Run) -> Kind:
    """The kind of a run."""
    task_model = getattr(run.method, "task_model", None)
    return Kind(
        model=run.model.name,
        method=run.method.name,
        ratio=getattr(run.method, "ratio", None),
        task_model=task_model.name if task_model else None,
    )


def task_data(run: Run) -> str | None:
    """Name of the task model's data, if they differ from the run's."""
    task_model = getattr(run.method, "task_model", None)
    other = task_model.data if task_model else None
    return other.name if other is not None and other != run.data else None


def variants(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Groups runs of one kind by the settings in which they differ, except data and seed.

    Returns:
        These settings as text, empty where there are none -> the runs, in order.
    """
    settings = [identifying_settings(run) for run in runs]
    by_data: dict[str, list[dict]] = {}
    for each in settings:
        by_data.setdefault(each["data"], []).append(each)
    differing = [
        name
        for name in dict.fromkeys(n for each in settings for n in each)
        if name not in ("seed", "data")
        and any(len({str(e.get(name)) for e in same}) > 1 for same in by_data.values())
    ]
    found: dict[str, list[Run]] = {}
    for run, each in zip(runs, settings, strict=True):
        text = ", ".join(f"{name}={each.get(name)}" for name in differing)
        found.setdefault(text, []).append(run)
    return found


def distinguishing_settings(runs: Sequence[Run]) -> list[str]:
    """For each run, the settings in which it differs from the others, as text.

    Where choices of a group differ, their names stand for their settings. The text is empty where
    only files differ.
    """
    parts = ("method", "model", "data", "optim")
    settings = [dict(_flat({p: to_dict(getattr(run, p)) for p in parts})) for run in runs]
    names = [
        name
        for name in dict.fromkeys(n for each in settings for n in each)
        if len({str(each.get(name)) for each in settings}) > 1
    ]
    choices = [name.removesuffix("name") for name in names if name.endswith(".name")]
    shown = [
        name
        for name in names
        if not any(name.startswith(c) and name != f"{c}name" for c in choices)
    ]
    return [", ".join(f"{_cli_name(name)}={each.get(name)}" for name in shown) for each in settings]


def _flat(plain: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Settings under dotted names."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{name}.")
        elif name != TARGET:
            yield f"{where}{name}", value


def _cli_name(name: str) -> str:
    """A setting's name on the command line."""
    return name.removeprefix("method.").removesuffix(".name")


def identifying_settings(run: Run) -> dict[str, Any]:
    """Settings that can distinguish two runs of a table, by their names on the command line."""
    task_model = getattr(run.method, "task_model", None)
    settings = {"model": run.model.name, "data": run.data.name, "seed": run.seed}
    if task_model is not None:
        settings["task_model"] = task_model.name
    for part, owner in (("method", run.method), ("data", run.data), ("optim", run.optim)):
        for f in fields(owner):
            value = getattr(owner, f.name)
            if f.metadata.get("identity", True) and not is_dataclass(value):
                settings[f"{part}.{f.name}"] = value
    ratio_and_scope = {n: settings.pop(f"method.{n}", None) for n in ("ratio", "scope")}
    for implied in ("method.name", "method.metric"):  # shown in the column of the method
        settings.pop(implied, None)
    return {**ratio_and_scope, **settings}
