"""The runs of a page: those of an outputs folder, of a grid, or of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alps.heads.head_set import HeadSet
from alps.report.outcomes import RunOutcome
from alps.report.runs.listing import describe, describe_settings, matches
from alps.runs.folder import RunFolder, list_runs
from alps.runs.result import Result
from alps.settings.run import Run

BASE_STATE = "base model"
"""State of a base model, which nothing trained."""

LOCALIZATION = "localization"
"""State, and method, of a head set of `alps localize`."""


@dataclass(frozen=True, kw_only=True)
class PageRun:
    """A run, a base model, or a head set of `alps localize` on a page.

    Attributes:
        key: Of the run.
        state: As `alps runs` shows it, `missing`, `base model` or `localization`.
        reason: Why there is no result; one sentence, or empty.
        outcome: Result and scores, or None if `run.yaml` cannot be read.
        localized: Head set of a localization.
    """

    key: str
    state: str
    reason: str = ""
    outcome: RunOutcome | None = None
    localized: HeadSet | None = None

    @property
    def run(self) -> Run | None:
        """Settings of the run, or None if they cannot be read."""
        return self.outcome.run if self.outcome else None

    @property
    def is_base(self) -> bool:
        """Whether it is a base model."""
        return self.outcome is not None and self.outcome.base

    @property
    def result(self) -> Result | None:
        """Its result, or None."""
        return self.outcome.result if self.outcome else None

    @property
    def folder(self) -> RunFolder | None:
        """Its folder, or None if that is unknown."""
        return self.outcome.folder if self.outcome else None


class _FolderOutcome(RunOutcome):
    """The outcome of a folder, whose name may be a key of an earlier version."""

    def __init__(self, folder: RunFolder, run: Run):
        """Reads the folder's result."""
        self.run, self.base = run, False
        self.folder, self.key = folder, folder.path.name
        self.result, self.gap = self._read()
        self._scores = {}


def runs_in_folder(output_dir: Path, filters: Sequence[str] = ()) -> list[PageRun]:
    """Runs and localizations of an outputs folder that match every filter of `alps runs`.

    The base models of the runs follow.
    """
    found = [run for folder in list_runs(output_dir) for run in _in_folder(folder, filters)]
    found.sort(key=_order)
    localized = [run for run in _localizations(output_dir) if matches(_line(run), filters)]
    return [*found, *localized, *_base_models([run.run for run in found if run.run and run.result])]


def runs_of_grid(runs: Sequence[Run]) -> list[PageRun]:
    """Runs of a grid, each once, with those that are missing, then their base models."""
    unique = {run.key: run for run in runs}
    found = [page_run(RunOutcome(run)) for run in unique.values()]
    return [*found, *_base_models(list(unique.values()))]


def page_run(outcome: RunOutcome) -> PageRun:
    """A run whose outcome has been read."""
    if outcome.base:
        state = BASE_STATE if outcome.result else "missing"
    elif outcome.result is not None:
        state = outcome.folder.status()["state"]
        state = "finished" if state == "unknown" else state  # of a published table
    else:
        state = outcome.gap.trouble if outcome.gap else "missing"
    reason = outcome.gap.reason if outcome.gap else outcome.folder.status()["reason"] or ""
    return PageRun(key=outcome.key, state=state, reason=reason, outcome=outcome)


def _order(run: PageRun) -> tuple:
    """By method, ratio, model, data and seed; what cannot be read comes last."""
    own = run.run
    if own is None:
        return (True, run.key)
    ratio = getattr(own.method, "ratio", None) or 0.0
    return (False, own.method.name, ratio, own.model.name, own.data.name, own.seed, run.key)


def _in_folder(folder: RunFolder, filters: Sequence[str]) -> Iterator[PageRun]:
    try:
        run = folder.read_run()
    except Exception:  # damaged folders are shown, too
        line = describe(folder)
        if matches(line, filters):
            yield PageRun(key=folder.path.name, state=line["state"], reason=line["reason"])
        return
    status = folder.status()
    state = {"state": status["state"], "reason": status["reason"] or ""}
    if not matches({"run": folder.path.name, **describe_settings(run), **state}, filters):
        return
    found = page_run(_FolderOutcome(folder, run))
    if found.state == "missing":  # `stopped` and `unknown` say more
        found = PageRun(key=found.key, **state, outcome=found.outcome)
    yield found


def _localizations(output_dir: Path) -> Iterator[PageRun]:
    """Head sets that `alps localize` left."""
    for path in sorted(output_dir.glob("scores/*/heads-*.json")):
        key = f"{path.parent.name}-{path.stem.removeprefix('heads-')}"
        try:
            yield PageRun(key=key, state=LOCALIZATION, localized=HeadSet.read(path))
        except (OSError, ValueError) as error:
            yield PageRun(key=key, state="unreadable", reason=str(error))


def _line(run: PageRun) -> dict[str, str]:
    """A localization as filters see it."""
    return {"run": run.key, "method": LOCALIZATION, "state": run.state, "reason": run.reason}


def _base_models(runs: Sequence[Run]) -> list[PageRun]:
    """The evaluated base models of runs."""
    found: dict[str, PageRun] = {}
    seen: set[str] = set()
    for run in runs:
        settings = repr((run.model, run.data, run.output_dir))
        if settings in seen:
            continue
        seen.add(settings)
        try:
            base = page_run(RunOutcome(run, base=True))
        except Exception:  # data or model that no longer exist have no key
            continue
        if base.state != "missing":
            found.setdefault(base.key, base)
    return list(found.values())
