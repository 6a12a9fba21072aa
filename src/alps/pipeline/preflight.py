"""Checks that need the run's model and data, made before a folder exists or anything trains."""

import logging
from importlib.util import find_spec
from pathlib import Path

from alps.base.atomic import can_hold_files
from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.serialization import SettingsError, to_dict
from alps.data.subset import training_examples
from alps.evals.context import context_overflow_reason
from alps.evals.engine.vllm import vllm_problem
from alps.evals.evaluate import refusals
from alps.heads.geometry import Geometry
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize, materialize_qkv
from alps.runs.completion import evaluation_folders, missing_benchmarks
from alps.runs.folder import RunFolder
from alps.settings.interfaces import Benchmark, Source
from alps.settings.model import Model
from alps.settings.run import Run

log = logging.getLogger(__name__)
_checked: set[str] = set()


def check(run: Run, trains: bool = True) -> None:
    """`check_files` and `check_model`, for one run.

    Raises:
        ValueError: One sentence.
    """
    check_files(run, trains)
    check_model(run, trains)


def check_files(run: Run, trains: bool = True) -> None:
    """Checks what needs no model: the outputs folder, what benchmarks need, and every row.

    Where there are several runs, this comes for all before `check_model` for any.

    Args:
        run: The run.
        trains: Whether it is to be trained.

    Raises:
        ValueError: One sentence.
    """
    if not can_hold_files(Path(run.output_dir)):
        raise ValueError(f"output_dir={run.output_dir} cannot be written to: name another folder")
    _check_benchmarks(run, trains)
    if RunFolder(run.folder).training_path.exists():
        return
    if not trains:
        if any(benchmark.reads_data for benchmark in _asked(run, trains)):
            training_examples(run.data)
        return
    if run.optim.frozen_dtype == "nf4" and (problem := four_bit_problem()):
        raise ValueError(problem)
    for source in _sources(run):
        training_examples(source)
    task = _given_task(run)
    if task is not None and task.repo:
        from alps.models.hub import check_id

        check_id(task.repo, f"task_model.path={task.repo}")
    elif task is not None:
        materialize_qkv(task)


def check_model(run: Run, trains: bool = True) -> None:
    """Fetches the base model, encodes every row, and compares the shapes of base and task model.

    Encoded rows are in the cache at the end, so the run's processes begin at once; a run whose
    training is done is not checked again.

    Args:
        run: The run.
        trains: Whether it is to be trained; else its training rows are not encoded.

    Raises:
        ValueError: One sentence.
    """
    _check_template(run, trains)
    if RunFolder(run.folder).training_path.exists():
        return
    base = checked_base(run.model)
    geometry = read_geometry(base)
    _check_answers(run, base)
    for source in _sources(run) if trains else ():
        mark = digest([canonical(source), str(base)])
        if mark not in _checked:
            _encode(run, source, base)
            _checked.add(mark)
    run.method.check(geometry)
    if (task := _given_task(run)) is not None:
        check_task_model(task, run.model, geometry)


def checked_base(model: Model) -> Path:
    """The folder of a base model that loads as it is stored, with its tokenizer.

    Raises:
        ValueError: If it cannot be had or is not all there; one sentence.
    """
    folder = materialize(model)
    from alps.models.load import check_loadable

    check_loadable(folder)
    return folder


def check_task_model(task: Model, base: Model, geometry: Geometry) -> None:
    """Refuses a finished task model that cannot be compared with the base, head by head.

    Args:
        task: The task model.
        base: The base model, for messages.
        geometry: Shape of the base model's attention.

    Raises:
        ValueError: One sentence.
    """
    folder = materialize_qkv(task)
    if read_geometry(folder) != geometry:
        raise ValueError(
            f"base and task model differ in shape: {base.name} has {geometry}, "
            f"{task.name} has {read_geometry(folder)}"
        )
    from alps.models.qkv import QKV

    QKV(folder, geometry).check()


def _given_task(run: Run) -> Model | None:
    """The finished task model that the run was given, or None if it makes one or needs none."""
    path = getattr(getattr(run.method, "task_model", None), "path", None)
    return Model(name=Path(path).name, path=path) if path else None


def _sources(run: Run) -> list[Source]:
    """What the run trains on, and what its task model does."""
    task_run = run.task_run()
    return [run.data, *([task_run.data] if task_run else [])]


def _asked(run: Run, trains: bool) -> list[Benchmark]:
    """Benchmarks that may run and have no result yet."""
    return [
        b
        for place in evaluation_folders(run, trains)
        for b in missing_benchmarks(place.evals, place.folder, place.weights)
    ]


def _check_benchmarks(run: Run, trains: bool) -> None:
    asked, problems = _asked(run, trains), []
    for place in evaluation_folders(run, trains):
        problems += refusals(place.evals, place.folder, place.weights)
    for benchmark in asked:
        try:
            benchmark.ready(run.evals.documents_dir)
        except ValueError as error:
            problems.append(str(error))
    if asked and run.evals.backend == "vllm" and (problem := vllm_problem()):
        problems.append(problem)
    if problems:
        raise SettingsError(problems)
    for benchmark in asked:
        mark = digest([to_dict(benchmark), benchmark.fingerprint(run.evals.documents_dir)])
        if mark not in _checked:
            benchmark.dry_run(run.evals.documents_dir, run.evals.backend)
            _checked.add(mark)


def _check_template(run: Run, trains: bool) -> None:
    asked = _asked(run, trains)
    if any(benchmark.protocol == "meta" for benchmark in asked) and not _has_chat_template(run):
        raise ValueError(
            "protocol=meta asks in the model's own chat template, but the tokenizer of "
            f"{run.model.name} has none: use evals.protocol=alpaca or plain"
        )


def _has_chat_template(run: Run) -> bool:
    from alps.models.load import load_tokenizer

    return bool(load_tokenizer(materialize(run.model)).chat_template)


def _check_answers(run: Run, base: Path) -> None:
    from alps.models.load import context_length

    context = context_length(base)
    longest = [(b.name, getattr(b, "max_new_tokens", None)) for b in run.evals.allowed]
    problems = [(name, context_overflow_reason(tokens, context)) for name, tokens in longest]
    if problems := [f"benchmark {name}: {problem}" for name, problem in problems if problem]:
        raise SettingsError(problems)


def _encode(run: Run, source: Source, base: Path) -> None:
    from alps.data.encoding.dataset import beyond_context, encoded_rows
    from alps.models.load import context_length, load_tokenizer

    context, show = context_length(base), run.trainer.progress
    rows = encoded_rows(source, load_tokenizer(base), progress=show, context=context)
    if told := beyond_context(rows, source, context):
        log.warning(told)
    if rows.num_dropped or rows.num_truncated:
        left_out = ", ".join(f"{count} {why}" for why, count in rows.tally.items()) or "none"
        found = (source.name, len(rows), rows.num_truncated, left_out)
        log.info("data=%s: %d training rows, %d of them cut to fit; left out: %s", *found)


def four_bit_problem() -> str | None:
    """Why nothing can be kept in 4 bits here, or None."""
    if find_spec("bitsandbytes"):
        return None
    return "optim.frozen_dtype=nf4 needs bitsandbytes: run `pip install 'alps[4bit]'`"
