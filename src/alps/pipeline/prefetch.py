"""Models, data and benchmarks of runs, fetched and checked for machines without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.progress import ProgressMode
from alps.base.serialization import to_dict
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.pipeline.preflight import check_task_model, checked_base
from alps.pipeline.retention import with_task_models
from alps.settings.interfaces import Benchmark, Source
from alps.settings.model import Model
from alps.settings.run import Run


@dataclass(frozen=True)
class Requirement:
    """An input of runs.

    Attributes:
        kind: `model`, `task model`, `data` or `benchmark`.
        name: Its name in messages.
        fetch: Fetches and checks it, and returns a description; raises a ValueError otherwise.
    """

    kind: str
    name: str
    fetch: Callable[[], str]


def requirements(runs: Iterable[Run], progress: ProgressMode = "off") -> list[Requirement]:
    """Inputs of these runs and their task models, each once.

    Args:
        runs: Runs of a grid.
        progress: Progress display of the encoding.
    """
    unique: dict[str, Requirement] = {}
    for run in (r for each in runs for r in with_task_models(each)):
        for content, requirement in _of(run, progress):
            unique.setdefault(digest([requirement.kind, content]), requirement)
    order = ("model", "task model", "data", "benchmark")
    return sorted(unique.values(), key=lambda requirement: order.index(requirement.kind))


def _of(run: Run, progress: ProgressMode) -> Iterator[tuple[object, Requirement]]:
    """Requirements of one run, each after the content that identifies it."""
    model = run.model
    yield model.fingerprint(), Requirement("model", model.name, partial(_fetch_model, model))
    settings = getattr(run.method, "task_model", None)
    if settings is not None and settings.path is not None:
        task = Model(name=Path(settings.path).name, path=settings.path)
        content = [task.fingerprint(), model.fingerprint()]
        fetch = partial(_fetch_task_model, task, model)
        yield content, Requirement("task model", task.name, fetch)
    content = [canonical(run.data), model.fingerprint()]
    name = f"{run.data.name} for {model.name}"
    yield content, Requirement("data", name, partial(_fetch_data, run.data, model, progress))
    for benchmark in run.evals.benchmarks:
        fetch = partial(_fetch_benchmark, benchmark, run.evals.documents_dir)
        yield to_dict(benchmark), Requirement("benchmark", benchmark.name, fetch)


def _fetch_model(model: Model) -> str:
    folder = checked_base(model)
    geometry = read_geometry(folder)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    heads = f"{geometry.num_layers} layers of {geometry.num_heads}/{geometry.num_kv_heads} heads"
    return f"{heads}, {weights / 1e9:.2f} GB"


def _fetch_task_model(task: Model, base: Model) -> str:
    check_task_model(task, base, read_geometry(materialize(base)))
    return "q, k and v"


def _fetch_data(source: Source, model: Model, progress: ProgressMode) -> str:
    from alps.data.encoding.dataset import encoded_dataset
    from alps.models.load import context_length, load_tokenizer

    folder = materialize(model)
    tokenizer, context = load_tokenizer(folder), context_length(folder)
    rows = encoded_dataset(source, tokenizer, progress=progress, context=context)
    left_out = "".join(f", {count} left out ({why})" for why, count in rows.dropped.items())
    cut = f", {rows.num_truncated} cut" if rows.num_truncated else ""
    return f"{len(rows)} rows of {int(rows.lengths.sum()):,} tokens{cut}{left_out}"


def _fetch_benchmark(benchmark: Benchmark, data_dir: Path | None) -> str:
    description = benchmark.fetch(data_dir) or "needs nothing"
    benchmark.ready(data_dir)
    return description
