"""Settings of `alps embed`, and the files that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alps.base.atomic import can_hold_files
from alps.base.hashing import digest
from alps.base.key import canonical
from alps.base.serialization import seed_problems
from alps.settings.interfaces import Source
from alps.settings.model import Model
from alps.settings.run import ALGORITHM_VERSION


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings in `conf/embed.yaml` except data and model.

    Attributes:
        num_rows: Examples per dataset, those of a training with this `data.max_examples`.
        seed: Seed of the subset, of t-SNE, and of intervals.
        text: Text to embed: `row` (prompt and answer, as in training) or `instruction` (prompt).
        template: Prompt template, as in training.
        max_length: Maximum number of tokens; longer texts are truncated.
        projection: `pca` or `tsne`, to three dimensions.
        num_neighbors: Nearest neighbors to consider.
        batch_tokens: Tokens per forward pass with padding; affects speed only.
        dtype: Dtype of the model's weights; sums are float32 in any case.
        to: Folder of the report, or None for one named by its content.
        output_dir: Parent of the folder `embeddings`.
    """

    num_rows: int
    seed: int
    text: Literal["row", "instruction"]
    template: Literal["alpaca", "chat", "plain"]
    max_length: int
    projection: Literal["pca", "tsne"]
    num_neighbors: int
    batch_tokens: int
    dtype: Literal["float32", "bfloat16"]
    to: str | None
    output_dir: str

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        least = {"num_rows": 2, "num_neighbors": 1, "max_length": 8, "batch_tokens": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                yield f"{name} must be at least {low}, got {getattr(self, name)}"
        yield from seed_problems(self.seed, "seed")
        for name in ("to", "output_dir"):
            if (place := getattr(self, name)) is not None and not can_hold_files(Path(place)):
                yield f"{name}={place} cannot be written to: name another folder"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Settings, model and datasets of a report."""

    settings: Settings
    model: Model
    sources: tuple[Source, ...]

    def identity(self, source: Source) -> Mapping[str, Any]:
        """Content that determines a dataset's embeddings."""
        own = {name: getattr(self.settings, name) for name in ("text", "dtype")}
        parts = {"model": canonical(self.model), "data": canonical(source), **own}
        return {"algorithm": ALGORITHM_VERSION, **parts}

    def embeddings_path(self, source: Source) -> Path:
        """File of a dataset's embeddings, shared by all reports."""
        name = f"{source.name}-{digest(self.identity(source))[:12]}.safetensors"
        return Path(self.settings.output_dir) / "embeddings" / name

    @property
    def folder(self) -> Path:
        """Folder of the report."""
        s = self.settings
        if s.to is not None:
            return Path(s.to)
        content = [[x.name, self.identity(x)] for x in self.sources]
        key = digest([content, self.model.name, s.projection, s.num_neighbors, s.seed])[:12]
        return Path(s.output_dir) / "reports" / f"figure7-{key}"
