"""What `alps embed` is asked for."""

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
    """What `conf/embed.yaml` holds, but for data and model.

    Attributes:
        num_rows: Rows of each dataset, the same that a training with this many uses.
        seed: Of these rows, of t-SNE, and of the intervals.
        text: What is embedded: `row` (prompt and answer, as trained) or `instruction` (the prompt).
        template: As in training.
        max_length: Tokens after which a row is cut.
        projection: `pca` or `tsne`, to three dimensions.
        num_neighbors: Nearest neighbors of a row that are looked at.
        batch_tokens: Tokens in one forward pass, padding included; changes nothing but speed.
        dtype: Of the model's weights; sums are float32 in any case.
        to: Folder of the report, or None for one named by what is in it.
        output_dir: Embeddings go to `embeddings` below it.
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
        """Sentences about settings that cannot be used."""
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
    """Everything `alps embed` is asked for."""

    settings: Settings
    model: Model
    sources: tuple[Source, ...]

    def identity(self, source: Source) -> Mapping[str, Any]:
        """What a dataset's embeddings depend on."""
        own = {name: getattr(self.settings, name) for name in ("text", "dtype")}
        parts = {"model": canonical(self.model), "data": canonical(source), **own}
        return {"algorithm": ALGORITHM_VERSION, **parts}

    def embeddings_path(self, source: Source) -> Path:
        """Where a dataset's embeddings are remembered, whatever picture they are for."""
        name = f"{source.name}-{digest(self.identity(source))[:12]}.safetensors"
        return Path(self.settings.output_dir) / "embeddings" / name

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        s = self.settings
        if s.to is not None:
            return Path(s.to)
        picture = [[x.name, self.identity(x)] for x in self.sources]
        key = digest([picture, self.model.name, s.projection, s.num_neighbors, s.seed])[:12]
        return Path(s.output_dir) / "reports" / f"figure7-{key}"
