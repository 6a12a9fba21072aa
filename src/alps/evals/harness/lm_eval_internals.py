"""The parts of lm-eval that are not its public interface, and the version they belong to.

Another version may change them without notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LM_EVAL_VERSION = "0.4.13"
"""As pinned in `pyproject.toml`: another version may also ask or score differently."""


def load_task_file(path: Path) -> dict[str, Any]:
    """A task file merged with its `include`s, with its `!function` tags imported.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is no mapping, or its includes form a cycle.
        yaml.YAMLError: If a file is no YAML.
        ImportError: If the module of a function cannot be imported.
        AttributeError: If the module has no such function.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(path)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Without the progress bar over requests, which has no switch."""
    from lm_eval.api import task

    original = task.tqdm
    try:
        task.tqdm = lambda items, **_: items
        yield
    finally:
        task.tqdm = original
