"""The parts of lm-eval that are not its public interface, and the version they belong to.

Another version may change them without notice. The functions import lm-eval, and with it torch;
the module does not.
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
        Exception: Of YAML, or of the imported module.
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
