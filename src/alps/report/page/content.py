"""The content of a page as JSON values: runs, settings, curves, heads, samples, differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from alps.base.provenance import utc_now
from alps.base.serialization import TARGET, to_dict
from alps.report.outcomes import Score
from alps.report.page.differences import REFERENCES, pairs, pooled
from alps.report.page.page_run import LOCALIZATION, PageRun
from alps.report.page.run_files import head_set, loss_curve, rounded, samples
from alps.report.style import VANILLA, MethodStyle

MAX_SAMPLES = 2400
"""Samples on a page, over all runs and benchmarks."""

SAMPLES_EACH = 20
"""Samples of a run in a benchmark, at most."""

LOWER_IS_BETTER = ("loss", "perplexity")

COSTS = (
    "num_trainable", "trainable_fraction", "qkv_fraction", "num_heads_selected", "train_seconds",
    "tokens_per_second", "peak_memory_bytes", "predicted_memory_bytes", "final_train_loss",
    "flops_vs_full", "score_mass", "num_steps",
)  # fmt: skip
"""Numbers of a result that become columns."""

FACTS = (
    "precision", "devices", "num_nodes", "strategy", "micro_batch_size", "num_examples",
    "num_dropped", "num_truncated", "git_commit", "git_dirty", "data_hash", "base_hash",
    "finished_at",
)  # fmt: skip
"""What is shown of a result beside its numbers."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a page is about.

    Attributes:
        title: Its heading.
        source: Folder or experiment that it shows.
        command: Command that writes it again.
        styles: Label and color of each method that has them.
    """

    title: str
    source: str
    command: str
    styles: Mapping[str, MethodStyle] = field(default_factory=dict)


def page_content(runs: Sequence[PageRun], about: About) -> dict[str, Any]:
    """Everything that a page shows, in bounded size."""
    scores = _score_names(runs)
    benchmarks = list(dict.fromkeys(name.partition("/")[0] for name in scores))
    shared = _Shared()
    records = [_record(run, scores, shared) for run in runs]
    _add_samples(runs, records, benchmarks, shared)
    styles = {"base": VANILLA, **about.styles}
    return {
        "title": about.title,
        "source": about.source,
        "command": about.command,
        "written": utc_now(),
        "version": version("alps"),
        "scores": [
            {"name": n, "lower": _metric(n) in LOWER_IS_BETTER, "headline": _is_headline(n, runs)}
            for n in scores
        ],
        "runs": records,
        "settings": _columns([_settings(run) for run in runs]),
        "versions": _columns([dict(run.result.versions) if run.result else {} for run in runs]),
        "heat": shared.heat,
        "texts": shared.texts,
        "pairs": pairs(runs, benchmarks),
        "pooled": pooled(runs, benchmarks),
        "references": REFERENCES,
        "styles": {name: asdict(style) for name, style in styles.items()},
    }


class _Shared:
    """Values that several runs have, stored once: score tables and texts."""

    def __init__(self) -> None:
        """Holds nothing yet."""
        self.heat: list[Any] = []
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def text(self, text: str) -> int:
        """Index of a text."""
        return self._place(f"t{text}", text, self.texts)

    def table(self, scores: Any) -> int | None:
        """Index of a score table."""
        return None if scores is None else self._place(f"h{json.dumps(scores)}", scores, self.heat)

    def _place(self, name: str, value: Any, values: list) -> int:
        if name not in self._places:
            self._places[name] = len(values)
            values.append(value)
        return self._places[name]


def _score_names(runs: Sequence[PageRun]) -> list[str]:
    """`benchmark/metric` of all scores, in the order in which they appear."""
    evals = [run.result.evals for run in runs if run.result]
    return list(dict.fromkeys(f"{b}/{m}" for e in evals for b, values in e.items() for m in values))


def _metric(name: str) -> str:
    return name.partition("/")[2]


def _is_headline(name: str, runs: Sequence[PageRun]) -> bool:
    """Whether a score is the headline of its benchmark."""
    benchmark, _, metric = name.partition("/")
    found = (r.result.evals[benchmark] for r in runs if r.result and r.result.evals.get(benchmark))
    return next(iter(next(found))) == metric


def _record(run: PageRun, scores: Sequence[str], shared: _Shared) -> dict[str, Any]:
    notes: list[str] = []
    heads = _read(lambda: head_set(run), notes)
    if heads:
        heads["scores"] = shared.table(heads["scores"])
    result = run.result
    own: dict[str, Any] = {
        "key": run.key,
        "state": run.state,
        "reason": run.reason,
        **_identity(run),
        "curve": _read(lambda: loss_curve(run), notes),
        "heads": heads,
        "samples": {},
        "notes": notes,
    }
    if result is None:
        return own
    values = [result.evals.get(b, {}).get(m) for b, _, m in (n.partition("/") for n in scores)]
    numbers = {name: getattr(result, name) for name in COSTS}
    if run.is_base:
        numbers = {}
    return own | {
        "costs": {n: _exact(v) for n, v in numbers.items() if v is not None},
        "scores": [_exact(value) for value in values],
        "intervals": [_interval(run, name) for name in scores],
        "facts": {n: v for n in FACTS if (v := getattr(result, n)) is not None},
        "deviations": list(result.deviations),
    }


def _identity(run: PageRun) -> dict[str, Any]:
    """Columns that name a run."""
    own = run.run
    if run.localized:
        return {
            "method": LOCALIZATION,
            "name": f"{LOCALIZATION} {run.localized.metric}",
            "ratio": run.localized.ratio,
        }
    if own is None:
        return {"method": run.key.rsplit("-", 1)[0]}
    if run.is_base:
        return {"method": "base", "model": own.model.name, "data": own.data.name}
    method = own.method
    return {
        "method": method.name,
        "ratio": getattr(method, "ratio", None),
        "scope": getattr(method, "scope", None),
        "model": own.model.name,
        "data": own.data.name,
        "optim": own.optim.name,
        "seed": own.seed,
    }


def _interval(run: PageRun, name: str) -> list[float | int | None] | None:
    """The 95 % interval of a score, as its evaluation has it."""
    benchmark, _, metric = name.partition("/")
    found = run.result.uncertainty.get(benchmark, {}).get(metric) if run.result else None
    ends = (found.get("low"), found.get("high")) if found else None
    values = run.result.evals.get(benchmark, {}) if run.result else {}
    if ends is None and run.outcome and metric == next(iter(values), None):
        score = run.outcome.score(benchmark)  # a published table has documents instead
        ends = score.interval if isinstance(score, Score) else None
    known = [rounded(end) for end in ends or () if end is not None]
    return known if len(known) == 2 and None not in known else None


def _settings(run: PageRun) -> dict[str, Any]:
    """All settings of a run under dotted names."""
    if run.localized:
        return dict(_flat(run.localized.provenance))
    if run.run is None or run.is_base:
        return {}
    return dict(_flat(to_dict(run.run)))


def _flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{where}{name}.")
        elif where == "evals." and name == "benchmarks" and isinstance(value, list):
            yield "evals.benchmarks", ", ".join(str(b.get("name")) for b in value)
        elif name != TARGET:
            simple = value is None or isinstance(value, bool | int | float | str)
            yield f"{where}{name}", value if simple else json.dumps(value, default=str)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Names -> `same`: the value of all that have one, or `each`: an index into `values` a row.

    Returns:
        An index of -1 stands for a row without that name.
    """
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values: list[Any] = []
        places: dict[str, int] = {}
        each = []
        for row in rows:
            if name not in row:
                each.append(-1)
                continue
            value = _exact(row[name])
            text = json.dumps(value)
            if text not in places:
                places[text] = len(values)
                values.append(value)
            each.append(places[text])
        found[name] = {"values": values, "each": each if len(set(each)) > 1 else each[:1]}
    return found


def _add_samples(
    runs: Sequence[PageRun], records: list[dict], benchmarks: Iterable[str], shared: _Shared
) -> None:
    """Adds as many samples of each run and benchmark as fit on a page."""
    asked = [
        (run, record, b)
        for run, record in zip(runs, records, strict=True)
        for b in benchmarks
        if run.result and b in run.result.evals
    ]
    most = max(1, min(SAMPLES_EACH, MAX_SAMPLES // max(1, len(asked))))
    for run, record, benchmark in asked:
        found = _read(lambda r=run, b=benchmark: samples(r, b, most), record["notes"])
        if not found or not found[0]:
            continue
        each, total = found
        record["samples"][benchmark] = {
            "total": total,
            "each": [
                [
                    s.document, shared.text(s.prompt), shared.text(s.answer),
                    shared.text(s.target), s.verdict, s.reason,
                ]
                for s in each
            ],
        }  # fmt: skip


def _read(read: Any, notes: list[str]) -> Any:
    """What a file holds, or None and a note if it cannot be read."""
    try:
        return read()
    except Exception as error:  # one damaged file leaves the rest of the page
        notes.append(" ".join(f"a file cannot be read: {error}".split()))
        return None


def _exact(value: Any) -> Any:
    """The value itself; None for a number that JSON cannot hold."""
    return rounded(value, 17) if isinstance(value, float) else value
