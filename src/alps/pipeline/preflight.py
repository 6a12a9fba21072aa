"""Checks that need a run's model and data, made before a folder exists or anything trains."""

import logging
from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from alps.base.atomic import can_hold_files
from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.serialization import SettingsError, to_dict
from alps.data.subset import training_examples
from alps.evals.context import context_overflow_reason
from alps.evals.engine.vllm import vllm_unavailable_reason
from alps.evals.evaluate import unsafe_code_problems
from alps.heads.geometry import Geometry
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize, materialize_qkv
from alps.runs.completion import evaluation_folders, missing_benchmarks
from alps.runs.folder import RunFolder
from alps.settings.interfaces import Benchmark, Source
from alps.settings.model import Model
from alps.settings.run import Run

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")


class RunCheck:
    """Checks of one run that need its model and data, made before its folder exists.

    Of several runs, `check_files` of all comes before `check_model` of any.
    """

    def __init__(self, run: Run, trains: bool = True, done: dict[str, Any] | None = None):
        """Checks nothing yet.

        Args:
            run: The run.
            trains: Whether it is to be trained, or only its base model evaluated.
            done: Shared by the runs of a command: what one run has passed, the others skip. Maps
                a hash of what was checked to the outcome.
        """
        self.run, self.trains = run, trains
        self.done = {} if done is None else done

    def check_files(self) -> None:
        """Checks everything but the model: outputs folder, benchmarks, and every example.

        Raises:
            ValueError: One sentence.
        """
        run = self.run
        if not can_hold_files(Path(run.output_dir)):
            raise ValueError(
                f"output_dir={run.output_dir} cannot be written to: name another folder"
            )
        self._check_benchmarks()
        if self.training_done:
            return
        if not self.trains:
            if any(benchmark.reads_data for benchmark in self.missing):
                training_examples(run.data)
            return
        if run.optim.frozen_dtype == "nf4" and (problem := four_bit_problem()):
            raise ValueError(problem)
        for source in _sources(run):
            self._once(["examples", to_dict(source)], partial(_read_examples, source))
        task = _finished_task_model(run)
        if task is not None and task.repo:
            from alps.models.hub import check_repo_id

            check_repo_id(task.repo, f"task_model.path={task.repo}")
        elif task is not None:
            materialize_qkv(task)

    def check_model(self) -> None:
        """Fetches the base model, encodes every example, and compares base and task model.

        The encoded examples stay in the cache, so the run's processes start at once.

        Raises:
            ValueError: One sentence.
        """
        run = self.run
        self._check_template()
        if self.training_done:
            return
        base = self._once(["base", to_dict(run.model)], partial(checked_base, run.model))
        geometry = read_geometry(base)
        answers = ["answers", to_dict(run.evals), str(base)]
        self._once(answers, partial(_check_answers, run, base))
        for source in _sources(run) if self.trains else ():
            self._once([canonical(source), str(base)], partial(_encode, run, source, base))
        run.method.check(geometry)
        if (task := _finished_task_model(run)) is not None:
            check_task_model(task, run.model, geometry)

    @property
    def training_done(self) -> bool:
        """Whether nothing is left to train."""
        return RunFolder(self.run.folder).training_path.exists()

    @cached_property
    def missing(self) -> list[Benchmark]:
        """Benchmarks that may run and have no result yet."""
        return [
            b
            for place in evaluation_folders(self.run, self.trains)
            for b in missing_benchmarks(place.evals, place.folder, place.weights)
        ]

    def _check_benchmarks(self) -> None:
        evals, problems = self.run.evals, []
        for place in evaluation_folders(self.run, self.trains):
            problems += unsafe_code_problems(place.evals, place.folder, place.weights)
        for benchmark in self.missing:
            try:
                benchmark.ready(evals.documents_dir)
            except ValueError as error:
                problems.append(str(error))
        if self.missing and evals.backend == "vllm" and (problem := vllm_unavailable_reason()):
            problems.append(problem)
        if self.missing and (problem := _precision_problem(self.run, self.trains)):
            problems.append(problem)
        if problems:
            raise SettingsError(problems)
        for benchmark in self.missing:
            subject = [to_dict(benchmark), benchmark.fingerprint(evals.documents_dir)]
            self._once(subject, partial(benchmark.dry_run, evals.documents_dir, evals.backend))

    def _check_template(self) -> None:
        meta = any(benchmark.protocol == "meta" for benchmark in self.missing)
        if meta and not _has_chat_template(self.run):
            raise ValueError(
                "protocol=meta asks in the model's own chat template, but the tokenizer of "
                f"{self.run.model.name} has none: use evals.protocol=alpaca or plain"
            )

    def _once(self, subject: object, step: Callable[[], Outcome]) -> Outcome:
        """Outcome of a check, made unless a run of the command has passed it on this subject."""
        key = digest(subject)
        if key not in self.done:
            self.done[key] = step()
        return self.done[key]


def check(run: Run, trains: bool = True) -> None:
    """Makes both checks of one run.

    Raises:
        ValueError: One sentence.
    """
    checks = RunCheck(run, trains)
    checks.check_files()
    checks.check_model()


def checked_base(model: Model) -> Path:
    """Folder of a base model that loads, with its tokenizer.

    Raises:
        ValueError: If it cannot be fetched or is incomplete; one sentence.
    """
    folder = materialize(model)
    from alps.models.load import check_loadable

    check_loadable(folder)
    return folder


def check_task_model(task: Model, base: Model, geometry: Geometry) -> None:
    """Checks that a finished task model can be compared with the base, head by head.

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
    from alps.models.qkv import QKVCheckpoint

    QKVCheckpoint(folder, geometry).check()


def _finished_task_model(run: Run) -> Model | None:
    """The finished task model of `task_model.path`, or None."""
    path = getattr(getattr(run.method, "task_model", None), "path", None)
    return Model(name=Path(path).name, path=path) if path else None


def _sources(run: Run) -> list[Source]:
    """Training data of the run and of its task model."""
    task_run = run.task_run()
    return [run.data, *([task_run.data] if task_run else [])]


def _has_chat_template(run: Run) -> bool:
    from alps.models.load import load_tokenizer

    return bool(load_tokenizer(materialize(run.model)).chat_template)


def _read_examples(source: Source) -> None:
    training_examples(source)  # not kept: there may be many


def _check_answers(run: Run, base: Path) -> None:
    from alps.models.load import context_length

    context = context_length(base)
    longest = [(b.name, getattr(b, "max_new_tokens", None)) for b in run.evals.allowed]
    problems = [(name, context_overflow_reason(tokens, context)) for name, tokens in longest]
    if problems := [f"benchmark {name}: {problem}" for name, problem in problems if problem]:
        raise SettingsError(problems)


def _encode(run: Run, source: Source, base: Path) -> None:
    from alps.data.encoding.dataset import context_warning, encoded_dataset
    from alps.models.load import context_length, load_tokenizer

    context, show = context_length(base), run.trainer.progress
    rows = encoded_dataset(source, load_tokenizer(base), progress=show, context=context)
    if warning := context_warning(rows, source, context):
        log.warning(warning)
    if rows.num_dropped or rows.num_truncated:
        left_out = ", ".join(f"{count} {why}" for why, count in rows.dropped.items()) or "none"
        counts = (source.name, len(rows), rows.num_truncated, left_out)
        log.info("data=%s: %d training rows, %d of them cut to fit; left out: %s", *counts)


def _precision_problem(run: Run, trained: bool) -> str | None:
    """Why a model of the run cannot be evaluated in `evals.precision` here, or None."""
    if run.evals.precision == "auto":
        return None
    from alps.evals.precision import evaluation_precision
    from alps.training.prediction import uses_gpu

    try:
        evaluation_precision(run, trained, uses_gpu(run))
    except ValueError as error:
        return str(error)
    return None


def four_bit_problem() -> str | None:
    """Why weights cannot be kept in 4 bits here, or None."""
    if find_spec("bitsandbytes"):
        return None
    return "optim.frozen_dtype=nf4 needs bitsandbytes: run `pip install 'alps[4bit]'`"
