"""The paper's numbers, read from `experiments/<table>/paper.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = "paper.csv"

TABLE_OF = {"figure2": "table1"}
"""Experiment -> the table of another name that it belongs to."""

HEAD_SHEETS = ("figure5", "figure8")
"""Experiments that show the heads chosen by `alps`."""


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """A number of the paper (experiments/README.md explains the columns).

    Attributes:
        row: Label in the paper.
        column: Label in the paper.
        model: Choice in `conf/model`.
        data: Choices in `conf/data`; none where the paper does not say.
        method: Choice in `conf/method`, or `base`.
        ratio: Share of heads, for methods that have one.
        task_model: Choice in `conf/task_model`, for methods that have one.
        task_data: Data of the task model, if they differ from `data`.
        benchmarks: Choices in `conf/evals/benchmark`.
        metric: Headline of the benchmark, or `mean`, `change`, `train_hours`.
        value: In percent, points or hours.
    """

    row: str
    column: str
    model: str
    data: tuple[str, ...]
    method: str
    ratio: float | None
    task_model: str | None
    task_data: str | None
    benchmarks: tuple[str, ...]
    metric: str
    value: float


def find_paper(experiment: str, folders: tuple[Path, ...]) -> Path | None:
    """The `paper.csv` of an experiment in the first of these `experiments` folders that has one."""
    table = TABLE_OF.get(experiment, experiment)
    paths = (folder / table / FILE for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def read_paper(path: Path) -> list[PaperNumber]:
    """All numbers of a table of the paper, in order.

    Raises:
        ValueError: If a line cannot be read; one sentence.
    """
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                found.append(_printed(line))
            except (KeyError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number} cannot be read ({error!r}): its columns are those of "
                    "experiments/README.md"
                ) from None
    return found


def group_by_row(paper: Sequence[PaperNumber]) -> dict[str, list[PaperNumber]]:
    """The numbers of each row."""
    rows: dict[str, list[PaperNumber]] = {}
    for cell in paper:
        rows.setdefault(cell.row, []).append(cell)
    return rows


def has_row_per_dataset(paper: Sequence[PaperNumber]) -> bool:
    """Whether each row has one dataset and rows differ in it, as in Table 14."""
    rows = [{d for c in cells for d in c.data} for cells in group_by_row(paper).values()]
    return all(len(own) == 1 for own in rows) and len(set().union(*rows)) > 1


def _printed(line: dict[str, str]) -> PaperNumber:
    return PaperNumber(
        row=line["row"],
        column=line["column"],
        model=line["model"],
        data=tuple(line["data"].split()),
        method=line["method"],
        ratio=float(line["ratio"]) if line["ratio"] else None,
        task_model=line["task_model"] or None,
        task_data=line["task_data"] or None,
        benchmarks=tuple(line["benchmark"].split()),
        metric=line["metric"],
        value=float(line["value"]),
    )
