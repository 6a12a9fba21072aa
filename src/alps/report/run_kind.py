"""Which row of a table a run belongs to: what was trained, apart from data and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from alps.base.serialization import TARGET, to_dict
from alps.settings.run import Run

BASE = "base"
"""The row of a model as it was before any training."""

LABELS = {
    "full": "w/ full",
    "no_attn": "w/o attn",
    "random": "Random",
    "layer_consistent": "LC",
    "lora": "LoRA",
    "alps": "ALPS",
    "cosine": "C.S.",
    "euclidean": "Eu.",
    "kl": "KL",
    BASE: "vanilla",
}
"""The paper's names of methods; others go by their own."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a row of a table has in common.

    Attributes:
        model: Name of the base model.
        method: Name of the method, or `base`.
        ratio: Share of heads, for methods that have one.
        task_model: How the task model was obtained, for methods that have one.
    """

    model: str
    method: str
    ratio: float | None = None
    task_model: str | None = None

    @property
    def label(self) -> str:
        """Its name where the paper has none: method, share of heads, an unusual task model."""
        ratio = "" if self.ratio is None else f", {100 * self.ratio:g}%"
        unusual = self.task_model not in (None, "sft")
        return LABELS.get(self.method, self.method) + ratio + f", {self.task_model}" * unusual


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
    """Name of the task model's data, where they are others than the run's."""
    task_model = getattr(run.method, "task_model", None)
    other = task_model.data if task_model else None
    return other.name if other is not None and other != run.data else None


def variants(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of one kind by the settings in which they differ beyond data and seed.

    Args:
        runs: Of one kind.

    Returns:
        Those settings as text, empty where there are none -> its runs, in order.
    """
    told = [identifying_settings(run) for run in runs]
    by_data: dict[str, list[dict]] = {}
    for each in told:
        by_data.setdefault(each["data"], []).append(each)
    differing = [
        name
        for name in dict.fromkeys(n for each in told for n in each)
        if name not in ("seed", "data")
        and any(len({str(e.get(name)) for e in same}) > 1 for same in by_data.values())
    ]
    found: dict[str, list[Run]] = {}
    for run, each in zip(runs, told, strict=True):
        text = ", ".join(f"{name}={each.get(name)}" for name in differing)
        found.setdefault(text, []).append(run)
    return found


def apart(runs: Sequence[Run]) -> list[str]:
    """For each run, the settings that set it apart from the others, as text.

    Of a choice with another name it is the name alone; empty where only files differ.
    """
    parts = ("method", "model", "data", "optim")
    told = [dict(_flat({p: to_dict(getattr(run, p)) for p in parts})) for run in runs]
    names = [
        name
        for name in dict.fromkeys(n for each in told for n in each)
        if len({str(each.get(name)) for each in told}) > 1
    ]
    choices = [name.removesuffix("name") for name in names if name.endswith(".name")]
    shown = [
        name
        for name in names
        if not any(name.startswith(c) and name != f"{c}name" for c in choices)
    ]
    return [", ".join(f"{_typed(name)}={each.get(name)}" for name in shown) for each in told]


def _flat(plain: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Settings under dotted names."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{name}.")
        elif name != TARGET:
            yield f"{where}{name}", value


def _typed(name: str) -> str:
    """A setting as the command line has it."""
    return name.removeprefix("method.").removesuffix(".name")


def identifying_settings(run: Run) -> dict[str, Any]:
    """Science settings under the names of the command line, for runs to be told apart by."""
    task_model = getattr(run.method, "task_model", None)
    told = {"model": run.model.name, "data": run.data.name, "seed": run.seed}
    if task_model is not None:
        told["task_model"] = task_model.name
    for part, owner in (("method", run.method), ("data", run.data), ("optim", run.optim)):
        for f in fields(owner):
            value = getattr(owner, f.name)
            if f.metadata.get("identity", True) and not is_dataclass(value):
                told[f"{part}.{f.name}"] = value
    ratio_and_scope = {n: told.pop(f"method.{n}", None) for n in ("ratio", "scope")}
    for implied in ("method.name", "method.metric"):  # the method's own column says it
        told.pop(implied, None)
    return {**ratio_and_scope, **told}
