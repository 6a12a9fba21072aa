"""The hub: network, token, and each model, dataset and benchmark of the runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.serialization import to_dict
from alps.doctor.commands import within
from alps.doctor.context import Context, head
from alps.doctor.finding import Finding, State, check
from alps.settings.interfaces import Benchmark, Source
from alps.settings.model import Model
from alps.settings.run import Run

REQUEST_SECONDS = 5.0
LOOKUP_SECONDS = 15.0
"""Two requests, and the lookup of a name, which knows no timeout."""

AT_ONCE = 8
KINDS = ("model", "task model", "data", "benchmark")


@check
def network(context: Context) -> Iterator[Finding]:
    """Whether the hub answers."""
    from huggingface_hub import constants

    problem = context.hub_problem
    if problem is None:
        yield Finding(name="network", state="ok", text=f"{constants.ENDPOINT} answers")
        return
    offline = constants.HF_HUB_OFFLINE
    remedy = "unset it to look things up" if offline else "see HTTPS_PROXY, HF_ENDPOINT"
    text = f"{problem}: only cached models, data and benchmarks can be used"
    remedy += "; or `alps prefetch` with a network, with the same HF_HOME"
    yield Finding(name="network", state="info" if offline else "warning", text=text, remedy=remedy)


@check
def token(context: Context) -> Iterator[Finding]:
    """The token of the hub, and whether the hub takes it."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        text = "none: gated and private models and data are refused"
        state: State = "warning" if _asks_the_hub(context) else "info"
        remedy = "hf auth login, or HF_TOKEN"
        yield Finding(name="hub token", state=state, text=text, remedy=remedy)
        return
    where = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "saved by `hf auth login`"
    if context.hub_problem:
        yield Finding(name="hub token", state="ok", text=f"{where}, not tried without the hub")
        return
    try:
        within(LOOKUP_SECONDS, HfApi().whoami)
    except HfHubHTTPError as error:
        status = error.response.status_code
        text = (
            f"{where}, but the hub does not take it (HTTP {status}): it refuses public files, too"
        )
        state = "missing" if _asks_the_hub(context) and status == 401 else "warning"
        remedy = "hf auth login with a new token"
        yield Finding(name="hub token", state=state, text=text, remedy=remedy)
    except Exception as error:
        text = f"{where}, but the hub does not say whose it is ({type(error).__name__})"
        yield Finding(name="hub token", state="warning", text=text)
    else:
        yield Finding(name="hub token", state="ok", text=where)


def _asks_the_hub(context: Context) -> bool:
    """Whether a run needs anything of the hub."""
    runs = context.unfinished
    return any(run.model.repo or _dataset(run.data) for run in runs) or any(
        getattr(benchmark, "hub", "") and run.evals.data_dir is None
        for run, benchmark in context.benchmarks
    )


@check
def inputs(context: Context) -> Iterator[Finding]:
    """Models, task models, data and benchmarks of the runs: in a cache, on the hub, or neither."""
    unique: dict[str, Callable[[], Finding]] = {}
    for run in context.unfinished:
        for content, find in _of(run, context):
            unique.setdefault(digest(content), find)
    for run, benchmark in context.benchmarks:
        find = partial(_benchmark, benchmark, run.evals.documents_dir, context)
        unique[digest([to_dict(benchmark), run.evals.data_dir])] = find
    _ = context.hub_problem  # asked once, before the threads
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda find: find(), unique.values()))
    yield from sorted(found, key=lambda finding: KINDS.index(finding.name.rpartition(" ")[0]))


def _of(run: Run, context: Context) -> Iterator[tuple[object, Callable[[], Finding]]]:
    """Inputs of a run, each after the content that identifies it."""
    yield run.model.fingerprint(), partial(_model, run.model, context)
    path = getattr(getattr(run.method, "task_model", None), "path", None)
    if path is not None:
        task = Model(name=Path(path).name, path=path)
        yield ["task model", task.fingerprint()], partial(_task_model, task, context)
    yield canonical(run.data), partial(_data, run.data, context)


def _model(model: Model, context: Context) -> Finding:
    from alps.models.architecture import read_geometry
    from alps.models.hub import is_cached

    name = f"model {model.name}"
    if model.repo is not None:
        at = f"{model.repo}@{model.hub_revision}"
        if is_cached(model.repo, model.hub_revision):
            return Finding(name=name, state="ok", text=f"{at} is in the hub cache")
        return _on_the_hub(name, at, context, partial(_look_up_model, model))
    try:
        if model.path:
            read_geometry(Path(model.path))
            _check_files(Path(model.path))
    except ValueError as error:
        return Finding(name=name, state="missing", text=str(error))
    where = model.path or (f"package {model.package}" if model.package else "random weights")
    return Finding(name=name, state="ok", text=f"on this machine ({where})")


def _check_files(folder: Path) -> None:
    """Raises if a folder has no weights or no tokenizer."""
    from alps.models.architecture import TOKENIZER_FILES

    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} has no safetensors: copy or convert the weights")
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ValueError(f"{folder} has no tokenizer (none of {', '.join(TOKENIZER_FILES)})")


def _task_model(task: Model, context: Context) -> Finding:
    from alps.models.hub import qkv_is_cached

    if task.repo is None:
        found = _model(task, context)  # such a folder needs no tokenizer, but has one
        return Finding(name=f"task {found.name}", state=found.state, text=found.text)
    name, at = f"task model {task.name}", f"{task.repo}@{task.hub_revision}"
    if qkv_is_cached(task.repo, task.hub_revision):
        return Finding(name=name, state="ok", text=f"q, k and v of {at} are in the cache")
    return _on_the_hub(name, at, context, partial(_look_up_model, task))


def _data(source: Source, context: Context) -> Finding:
    from alps.data.files.hub import is_cached

    name, hub = f"data {source.name}", _dataset(source)
    if hub is None:
        where = source.path or "generated here"
        return Finding(name=name, state="ok", text=f"on this machine ({where})")
    repo, revision, files = hub
    at = f"{repo}@{revision[:12]}"
    if is_cached(repo, revision, files):
        return Finding(name=name, state="ok", text=f"{at} is in the hub cache")
    return _on_the_hub(name, at, context, partial(_look_up_dataset, repo, revision))


def _dataset(source: Source) -> tuple[str, str, tuple[str, ...]] | None:
    """Id, revision and files of a dataset on the hub, or None for other sources."""
    from alps.data.sources.table import FileSource

    if not isinstance(source, FileSource) or source.path is not None or source.hub is None:
        return None
    return source.hub, source.revision, source.files


def _benchmark(benchmark: Benchmark, data_dir: Path | None, context: Context) -> Finding:
    """Documents and packages of a benchmark."""
    from alps.data.files.hub import is_cached
    from alps.evals.evalplus.benchmark import EvalPlus
    from alps.evals.evalplus.problems import RELEASES, cached_release, release_address
    from alps.evals.harness.benchmark import HarnessTask
    from alps.evals.harness.ifeval import IFEval, has_punkt

    name, hub = f"benchmark {benchmark.name}", None
    if data_dir is None and isinstance(benchmark, HarnessTask) and benchmark.hub:
        files = [pattern for split in benchmark.splits.values() for pattern in split.hub_files]
        if not all(is_cached(benchmark.hub, benchmark.revision, [each]) for each in files):
            hub = benchmark.hub
    if hub is not None and isinstance(benchmark, HarnessTask):
        if isinstance(benchmark, IFEval) and not has_punkt(data_dir):
            text = "NLTK's punkt_tab is not installed: alps train refuses the benchmark"
            return Finding(name=name, state="missing", text=text, remedy="alps prefetch gets it")
        look_up = partial(_look_up_dataset, hub, benchmark.revision)
        return _on_the_hub(name, f"{hub}@{benchmark.revision[:12]}", context, look_up)
    if data_dir is None and isinstance(benchmark, EvalPlus):
        release = RELEASES[benchmark.dataset]
        if not cached_release(release).exists():
            try:
                within(LOOKUP_SECONDS, lambda: head(release_address(release), REQUEST_SECONDS))
            except Exception:
                text = f"{release.name} {release.version} is not in the cache, its server not there"
                remedy = "alps prefetch with a network, or evals.data_dir=<folder>"
                return Finding(name=name, state="missing", text=text, remedy=remedy)
            context.to_download.append(name)
            text = f"{release.name} {release.version} can be downloaded"
            return Finding(name=name, state="ok", text=text)
    try:
        benchmark.ready(data_dir)
    except ValueError as error:
        return Finding(name=name, state="missing", text=str(error))
    return Finding(
        name=name, state="ok", text=f"on this machine{f' ({data_dir})' * bool(data_dir)}"
    )


def _on_the_hub(name: str, at: str, context: Context, look_up: Callable[[], object]) -> Finding:
    """Whether something that is in no cache can be downloaded."""
    from huggingface_hub import constants

    from alps.models.hub import error_reason

    if context.hub_problem:
        remedy = "alps prefetch with a network"
        if constants.HF_HUB_OFFLINE:
            remedy = f"unset HF_HUB_OFFLINE, or {remedy}"
        text = f"{at} is not in the cache, and the hub cannot be asked"
        return Finding(name=name, state="missing", text=text, remedy=remedy)
    try:
        within(LOOKUP_SECONDS, look_up)
    except ValueError as error:  # gated, private or unknown, in the user's words
        return Finding(name=name, state="missing", text=str(error))
    except TimeoutError as error:
        return Finding(name=name, state="missing", text=f"{at} cannot be looked up: {error}")
    except Exception as error:
        text = f"{at} cannot be looked up ({error_reason(error)})"
        return Finding(name=name, state="missing", text=text)
    context.to_download.append(name)
    return Finding(name=name, state="ok", text=f"{at} is on the hub and may be read; not yet here")


def _look_up_model(model: Model) -> None:
    """Asks for a file, because the metadata of gated repos is open."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    from alps.models.hub import translate_hub_errors

    assert model.repo is not None
    at = f"{model.repo}@{model.hub_revision}"
    with translate_hub_errors(at, f"model.path={model.repo}"):
        url = hf_hub_url(model.repo, "config.json", revision=model.hub_revision)
        get_hf_file_metadata(url, timeout=REQUEST_SECONDS)


def _look_up_dataset(repo: str, revision: str) -> None:
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    from alps.models.hub import translate_hub_errors

    with translate_hub_errors(f"{repo}@{revision[:12]}", repo, "dataset", "it may have moved"):
        info = HfApi().dataset_info(repo, revision=revision, timeout=REQUEST_SECONDS)
        files = [s.rfilename for s in info.siblings or () if not s.rfilename.startswith(".")]
        for file in files[:1]:
            url = hf_hub_url(repo, file, repo_type="dataset", revision=revision)
            get_hf_file_metadata(url, timeout=REQUEST_SECONDS)
