"""Generated datasets, embedded in the package and identical on every machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from alps.data.example import DropCounts, Example, Split
from alps.settings.interfaces import Source


@dataclass(frozen=True, kw_only=True)
class Mini(Source):
    """Examples of a generator module.

    Attributes:
        generator: Module in `alps.data.generators` with `VERSION` and `examples(split)`.
    """

    generator: str

    def examples(self, split: Split, dropped: DropCounts | None = None) -> Iterator[Example]:
        """Examples of the generator."""
        return self._module().examples(split)

    def fingerprint(self) -> str:
        """The generator and its version, which increases when its examples change."""
        return f"{self.generator}-v{self._module().VERSION}"

    def _module(self) -> ModuleType:
        return import_module(f"alps.data.generators.{self.generator}")
