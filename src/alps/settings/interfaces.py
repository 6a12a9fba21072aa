"""The three families of settings whose variants are classes of their own.

A data source, a method or a benchmark is a subclass in `alps.data`, `alps.methods` or `alps.evals`,
named by the `_target_` of its YAML; no shared file knows it. Nothing here imports torch.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from alps.base.hashing import excluded_at_default, excluded_from_key, file_hash

if TYPE_CHECKING:  # types only: never executed, so the import law holds
    from alps.data.example import DropCounts, Example, Split
    from alps.evals.context import Backend, BenchmarkResult, EvaluationContext
    from alps.evals.statistics import DocumentScores
    from alps.heads.geometry import Geometry
    from alps.heads.head_set import HeadSet
    from alps.methods.context import Context
    from alps.models.training_plan import TrainingPlan

KvPolicy = Literal["any", "all", "majority", "none"]
Scope = Literal["rest_trains", "heads_only"]
FrozenDtype = Literal["float32", "bfloat16", "nf4"]
Task = Literal["general", "math", "code"]
Protocol = Literal["alpaca", "plain", "meta", "answer_tokens"]


@dataclass(frozen=True)
class PromptFile:
    """A file of benchmark prompts; in a run's key it stands with its content, not its place.

    Attributes:
        path: The file.
    """

    path: str = excluded_from_key("")

    def fingerprint(self) -> str:
        """Hash of the file."""
        return file_hash(Path(self.path))


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where rows come from. A subclass says how; the fields here are common to all.

    Attributes:
        name: Name of the choice, for tables.
        task: What the rows teach; decides which benchmarks follow.
        path: Local file, for sources that read one.
        max_examples: Use only so many training rows, or None for all.
        fraction: Use this share of the training rows (nested: 0.1 lies inside 0.3).
        subset_seed: Seed of that subset.
        skip_examples: Number of examples to leave out: those that a run with the same `subset_seed`
            and this `max_examples` trains on, so that the two share none.
        template: How a prompt is written: `alpaca`, `chat` (the model's own) or `plain`.
        max_length: Longest sequence in tokens; the model's context, if that is shorter.
        too_long: What happens to a longer row: `truncate` cuts the end of its instruction, so that
            template, answer and end-of-text stay whole (and drops it if nothing of the instruction
            would stay), `drop` drops it. Both are counted.
        deduplicate: Leave out rows whose instruction and answer came before, whatever their case
            and white space.
        decontaminate: Files of benchmark prompts: rows that share an n-gram of words with one of
            them are left out and counted.
        ngram: Words in such an n-gram.
        batching: How a micro-batch stands in memory: `packed` (no padding), `grouped` (rows of
            similar length), `padded` (rows as drawn), or `auto`, which is `packed`.
    """

    name: str = excluded_from_key("data")
    task: Task = excluded_from_key("general")
    path: str | None = excluded_from_key()
    max_examples: int | None = None
    fraction: float = 1.0
    subset_seed: int = 0
    skip_examples: int = excluded_at_default(0)
    template: Literal["alpaca", "chat", "plain"] = "alpaca"
    max_length: int = 2048
    too_long: Literal["truncate", "drop"] = "truncate"
    deduplicate: bool = False
    decontaminate: tuple[str | PromptFile, ...] = ()
    ngram: int = 13
    batching: Literal["auto", "packed", "grouped", "padded"] = excluded_from_key("auto")

    def __post_init__(self) -> None:
        """Paths become files that have a content."""
        files = (PromptFile(f) if isinstance(f, str) else f for f in self.decontaminate)
        object.__setattr__(self, "decontaminate", tuple(files))

    @property
    def prompt_files(self) -> tuple[Path, ...]:
        """The files of `decontaminate`."""
        return tuple(Path(f if isinstance(f, str) else f.path) for f in self.decontaminate)

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.max_examples is not None and self.max_examples < 1:
            yield f"data.max_examples must be at least 1, got {self.max_examples}"
        if self.skip_examples < 0:
            yield f"data.skip_examples must not be negative, got {self.skip_examples}"
        if not 0 < self.fraction <= 1:
            yield f"data.fraction must lie in (0, 1], got {self.fraction}"
        if self.max_length < 8:
            yield f"data.max_length must be at least 8 tokens, got {self.max_length}"
        if self.ngram < 1:
            yield f"data.ngram must be at least 1 word, got {self.ngram}"
        for path in self.prompt_files:
            if not os.path.isfile(path):
                yield f"data.decontaminate: {path} does not exist"

    @abstractmethod
    def examples(self, split: Split, dropped: DropCounts | None = None) -> Iterator[Example]:
        """All usable rows of a split, in a fixed order, one at a time.

        Args:
            split: `train`, or `test`: rows held out.
            dropped: Receives the number of dropped examples by reason.

        Raises:
            ValueError: One sentence, with the row's number, where a row cannot be used.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Content of the rows (a file's hash, or a generator's version)."""

    def commit(self) -> str | None:
        """The commit that a revision on the hub means now, or None for rows from elsewhere."""
        return None


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How heads are chosen and what is trained.

    A subclass that declares a field `ratio`, `scope` or `task_model` receives the run's setting of
    that name; one that doesn't ignores it, and the setting is no part of its key.
    """

    name: str

    @property
    def freezes_the_rest(self) -> bool:
        """Whether nothing but rows of Q/K/V or adapters trains."""
        return getattr(self, "scope", None) == "heads_only"

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        return iter(())

    def check(self, geometry: Geometry) -> None:  # noqa: B027 - most methods fit every model
        """Refuses a model that these settings do not fit, before anything trains.

        Raises:
            ValueError: One sentence.
        """

    def normalized(self) -> Method:
        """The method of which these settings are only another name, else itself."""
        return self

    def choose(self, context: Context) -> HeadSet | None:
        """The chosen heads (Algorithm 1, lines 1 to 9), or None for a method without heads."""
        return None

    @abstractmethod
    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """What trains, given the chosen heads (Algorithm 1, lines 10 to 12)."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A benchmark: one YAML, one subclass. No part of a run's key.

    Attributes:
        name: Names the folder of its results.
        protocol: How it is asked: `alpaca`, in the template the model was trained on, as one
            instruction; `plain`, the harness's text as it is; `meta`, in the model's own chat
            template, each shot a turn; `answer_tokens`, not at all. Two protocols never mix.
        version: Raised when it is asked or judged otherwise; results of two versions never mix.
        task: The task it belongs to, or None if it fits every task.
        limit: Number of documents, or None for all.
    """

    reads_data: ClassVar[bool] = False
    """Whether it reads rows of the run's data, and not only the template: then a base model has a
    result of it for each dataset, and else one for all."""

    name: str
    protocol: Protocol
    version: int = 1
    task: Task | None = None
    limit: int | None = None
    runs_generated_code: bool = False

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.limit is not None and self.limit < 1:
            yield f"the limit of benchmark {self.name} must be at least 1, got {self.limit}"

    def protected(self) -> bool:
        """Whether what it executes can do no harm here: where it runs no generated code, always."""
        return not self.runs_generated_code

    def ready(self, data_dir: Path | None) -> None:  # noqa: B027 - some need nothing
        """Refuses what would fail after hours: packages and files that are not there.

        Args:
            data_dir: `evals.data_dir`: documents as local files, or None for the hub's.

        Raises:
            ValueError: One sentence that names what is missing and the remedy.
        """

    def dry_run(  # noqa: B027 - some need none
        self, data_dir: Path | None, backend: Backend = "hf"
    ) -> None:
        """Refuses what shows only when it is asked, judged and summed up; no model is needed.

        Args:
            data_dir: `evals.data_dir`.
            backend: What will generate.

        Raises:
            ValueError: One sentence.
        """

    def fetch(self, data_dir: Path | None) -> str | None:
        """Gets what the benchmark needs from elsewhere, so that it runs without a network.

        Args:
            data_dir: `evals.data_dir`.

        Returns:
            What that is, in words, or None if it needs nothing.

        Raises:
            ValueError: If it cannot be had; one sentence.
        """
        return None

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Content of the documents; None where it cannot be told without fetching them."""
        return None

    @abstractmethod
    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Asks the model and judges its answers.

        Every rank calls it; those other than 0 may return None.

        Raises:
            ValueError: If documents are missing or damaged; one sentence.
        """

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """The headline, document by document, from the files that `evaluate` left.

        Args:
            folder: `evals/<name>/<protocol>` of what was evaluated.

        Returns:
            None for a benchmark that leaves none.

        Raises:
            OSError: If the files are gone.
            ValueError: If they are damaged.
        """
        return None
