"""Abstract base classes of data sources, methods and benchmarks.

A subclass in `alps.data`, `alps.methods` or `alps.evals` is selected by the `_target_` of its YAML;
no shared file lists it. Nothing here imports torch.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from alps.base.hashing import file_hash
from alps.base.key import excluded_at_default, excluded_from_key

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
    """A file of benchmark prompts; a run's key contains its content, not its path.

    Attributes:
        path: The file.
    """

    path: str = excluded_from_key("")

    def fingerprint(self) -> str:
        """Hash of the file's content."""
        return file_hash(Path(self.path))


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Source of training examples; fields of all sources.

    Attributes:
        name: Name of the choice, for tables.
        task: Task of the examples; selects the benchmarks.
        path: Local file, for sources that read one.
        max_examples: Maximum number of training examples, or None for all.
        fraction: Share of the training examples to use (nested: 0.1 lies inside 0.3).
        subset_seed: Seed of that subset.
        skip_examples: Number of examples to leave out: those that a run with the same `subset_seed`
            and this `max_examples` trains on, so that the two runs share none.
        template: Template of a prompt: `alpaca`, `chat` (the model's own) or `plain`.
        max_length: Maximum sequence length in tokens, at most the model's context.
        too_long: Treatment of longer examples: `truncate` cuts the end of the instruction and keeps
            template, answer and end of text (and drops the example if no instruction would remain),
            `drop` drops the example. Both are counted.
        deduplicate: Leave out repetitions of instruction and answer, ignoring case and white space.
        decontaminate: Files of benchmark prompts: examples that share a word n-gram with one of
            them are left out and counted.
        ngram: Number of words in such an n-gram.
        batching: Layout of a micro-batch: `packed` (no padding), `grouped` (examples of similar
            length), `padded` (examples in sampled order), or `auto`, which is `packed`.
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
        """Turns paths into `PromptFile`s, so that keys contain their content."""
        files = (PromptFile(f) if isinstance(f, str) else f for f in self.decontaminate)
        object.__setattr__(self, "decontaminate", tuple(files))

    @property
    def prompt_files(self) -> tuple[Path, ...]:
        """The files of `decontaminate`."""
        return tuple(Path(f if isinstance(f, str) else f.path) for f in self.decontaminate)

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
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
        """All usable examples of a split, in a fixed order.

        Args:
            split: `train`, or `test` for held-out examples.
            dropped: Receives the number of examples left out, by reason.

        Raises:
            ValueError: If an example is invalid; one sentence with its row number.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Content of the examples (hash of a file, or version of a generator)."""

    def commit(self) -> str | None:
        """Current commit of a revision on the hub, or None for other sources."""
        return None


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Selection of heads and of the parameters to train.

    A subclass with a field `ratio`, `scope` or `task_model` receives the run's setting of that
    name. Without the field, the setting is ignored and no part of the key.
    """

    name: str

    @property
    def freezes_rest(self) -> bool:
        """Whether only rows of Q/K/V or adapters train."""
        return getattr(self, "scope", None) == "heads_only"

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        return iter(())

    def check(self, geometry: Geometry) -> None:  # noqa: B027 - most methods fit every model
        """Refuses a model that does not fit these settings, before any training.

        Raises:
            ValueError: One sentence.
        """

    def normalized(self) -> Method:
        """The equivalent method that gives the run its key; usually this one."""
        return self

    def choose(self, context: Context) -> HeadSet | None:
        """Selected heads (Algorithm 1, lines 1 to 9), or None for a method without heads."""
        return None

    @abstractmethod
    def plan(self, heads: HeadSet | None) -> TrainingPlan:
        """Parameters to train, given the selected heads (Algorithm 1, lines 10 to 12)."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A benchmark: one YAML, one subclass. No part of a run's key.

    Attributes:
        name: Name of the folder with its results.
        protocol: Prompt format: `alpaca`, one instruction in the training template; `plain`, the
            harness's text unchanged; `meta`, the model's own chat template with each shot as a
            turn; `answer_tokens`, no prompt. Results of two protocols never mix.
        version: Raised when prompts or scoring change; results of two versions never mix.
        task: The task it belongs to, or None if it fits every task.
        limit: Maximum number of documents, or None for all.
        runs_generated_code: Whether it executes generated code.
    """

    reads_data: ClassVar[bool] = False
    """Whether it reads examples of the run's data beyond the template. If so, a base model has one
    result per dataset, else one for all."""

    name: str
    protocol: Protocol
    version: int = 1
    task: Task | None = None
    limit: int | None = None
    runs_generated_code: bool = False

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        if self.limit is not None and self.limit < 1:
            yield f"the limit of benchmark {self.name} must be at least 1, got {self.limit}"

    def protected(self) -> bool:
        """Whether it cannot do harm here; always true if it executes no generated code."""
        return not self.runs_generated_code

    def ready(self, data_dir: Path | None) -> None:  # noqa: B027 - some need nothing
        """Checks packages and files before hours of work depend on them.

        Args:
            data_dir: `evals.data_dir`: local files of documents, or None for the hub.

        Raises:
            ValueError: If something is missing; one sentence with the remedy.
        """

    def dry_run(  # noqa: B027 - some need none
        self, data_dir: Path | None, backend: Backend = "hf"
    ) -> None:
        """Checks prompts, scoring and aggregation on a few documents, without a model.

        Args:
            data_dir: `evals.data_dir`.
            backend: Generation backend.

        Raises:
            ValueError: One sentence.
        """

    def fetch(self, data_dir: Path | None) -> str | None:
        """Downloads what the benchmark needs, so that it runs without a network.

        Args:
            data_dir: `evals.data_dir`.

        Returns:
            A description of it, or None if nothing is needed.

        Raises:
            ValueError: If it is not available; one sentence.
        """
        return None

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Content of the documents, or None if unknown before they are downloaded."""
        return None

    @abstractmethod
    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Evaluates the model.

        Every rank calls it; ranks other than 0 may return None.

        Raises:
            ValueError: If documents are missing or damaged; one sentence.
        """

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """Headline metric per document, read from the files of `evaluate`.

        Args:
            folder: `evals/<name>/<protocol>` of the evaluated model.

        Returns:
            The scores, or None for a benchmark without them.

        Raises:
            OSError: If files are missing.
            ValueError: If files are damaged.
        """
        return None
