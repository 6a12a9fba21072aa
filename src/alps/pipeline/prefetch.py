"""What runs need from elsewhere, fetched and checked before they start without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.progress import ProgressMode
from alps.base.serialization import to_dict
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.pipeline.preflight import check_task_model, checked_base
from alps.settings.interfaces import Benchmark, Source
from alps.settings.model import Model
from alps.settings.run import Run


@dataclass(frozen=True)
class Need:
    """Something that a run reads and does not make itself.

    Attributes:
        kind: `model`, `task model`, `data` or `benchmark`.
        name: What people call it.
        fetch: Gets and checks it; what there is then, in words. A ValueError says why not.
    """

    kind: str
    name: str
    fetch: Callable[[], str]


def needs(runs: Iterable[Run], progress: ProgressMode = "off") -> list[Need]:
    """All that these runs and their task models read, each once.

    Args:
        runs: Runs of a grid.
        progress: How the encoding of rows is shown.
    """
    found: dict[str, Need] = {}
    for run in (r for each in runs for r in _with_task_runs(each)):
        for mark, need in _of(run, progress):
            found.setdefault(digest([need.kind, mark]), need)
    order = ("model", "task model", "data", "benchmark")
    return sorted(found.values(), key=lambda need: order.index(need.kind))


def _with_task_runs(run: Run) -> Iterator[Run]:
    yield run
    task = run.task_run()
    if task is not None:
        yield from _with_task_runs(task)


def _of(run: Run, progress: ProgressMode) -> Iterator[tuple[object, Need]]:
    model = run.model
    yield model.fingerprint(), Need("model", model.name, lambda: _model(model))
    wanted = getattr(run.method, "task_model", None)
    if wanted is not None and wanted.path is not None:
        task = Model(name=Path(wanted.path).name, path=wanted.path)
        need = Need("task model", task.name, lambda: _task_model(task, model))
        yield [task.fingerprint(), model.fingerprint()], need
    mark = [canonical(run.data), model.fingerprint()]
    name = f"{run.data.name} for {model.name}"
    yield mark, Need("data", name, lambda: _data(run.data, model, progress))
    place = run.evals.documents_dir
    for benchmark in run.evals.benchmarks:
        fetch = lambda b=benchmark: _bench(b, place)  # noqa: E731
        yield to_dict(benchmark), Need("benchmark", benchmark.name, fetch)


def _model(model: Model) -> str:
    folder = checked_base(model)
    geometry = read_geometry(folder)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    heads = f"{geometry.num_layers} layers of {geometry.num_heads}/{geometry.num_kv_heads} heads"
    return f"{heads}, {weights / 1e9:.2f} GB"


def _task_model(task: Model, base: Model) -> str:
    check_task_model(task, base, read_geometry(materialize(base)))
    return "q, k and v"


def _data(source: Source, model: Model, progress: ProgressMode) -> str:
    from alps.data.encoding.dataset import encoded_rows
    from alps.models.load import context_length, load_tokenizer

    folder = materialize(model)
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    rows = encoded_rows(source, tokenizer, progress=progress, context=context)
    left_out = "".join(f", {count} left out ({why})" for why, count in rows.tally.items())
    cut = f", {rows.num_truncated} cut" if rows.num_truncated else ""
    return f"{len(rows)} rows of {int(rows.lengths.sum()):,} tokens{cut}{left_out}"


def _bench(benchmark: Benchmark, data_dir: Path | None) -> str:
    found = benchmark.fetch(data_dir) or "needs nothing"
    benchmark.ready(data_dir)
    return found
