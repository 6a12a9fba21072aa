"""Resolves a checkpoint on the command line: path, run, model choice or hub id."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from alps.base.cache import cache_dir
from alps.base.hashing import cheap_fingerprint
from alps.heads.geometry import Geometry
from alps.runs.folder import RunFolder, list_runs
from alps.settings.model import Model

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


class ResolvedCheckpoint(NamedTuple):
    """A checkpoint on this machine.

    Attributes:
        path: Folder or file.
        identity: Identifies its content in the key of the scores.
        geometry: Attention shape, where only the run records it.
    """

    path: Path
    identity: str
    geometry: Geometry | None = None


def resolve_checkpoint(
    name: str,
    text: str,
    output_dir: Path,
    model_choice: Callable[[str], Model | None],
    progress: Callable[[int, int], None] | None = None,
) -> ResolvedCheckpoint:
    """Resolves the checkpoint that `text` names.

    Args:
        name: `base` or `task`, for messages.
        text: Value of the setting.
        output_dir: Folder of the outputs.
        model_choice: Settings of a model of that name in `conf/model`, or None.
        progress: Called with the bytes fetched and the total, for a hub id.

    Raises:
        ValueError: One sentence.
    """
    path = Path(text).expanduser()
    run = RunFolder(path if path.is_dir() else output_dir / "runs" / text)
    if run.settings_path.exists():
        return _of_run(run)
    if path.exists():
        return ResolvedCheckpoint(path, cheap_fingerprint(path))
    named = [f for f in list_runs(output_dir) if "/" not in text and text in f.path.name]
    if len(named) == 1:
        return _of_run(named[0])
    if model := model_choice(text):
        from alps.models.checkpoint import materialize

        return ResolvedCheckpoint(materialize(model), model.fingerprint())
    if not HUB_ID.fullmatch(text):
        raise ValueError(
            f"{name}={text} is no folder or safetensors file, no run in {output_dir / 'runs'}, "
            "no choice in conf/model and no hub id (org/name)"
        )
    from alps.models.hub import fetch_qkv

    repo, _, revision = text.partition("@")
    copy = fetch_qkv(repo, revision or "main", progress)
    return ResolvedCheckpoint(copy, f"hub {copy.relative_to(cache_dir())}")


def _of_run(folder: RunFolder) -> ResolvedCheckpoint:
    from alps.models.architecture import read_geometry
    from alps.models.checkpoint import materialize
    from alps.training.restore import scorable_checkpoint

    try:
        run = folder.read_run()
    except yaml.YAMLError:
        raise ValueError(f"{folder.settings_path} is damaged: it is no YAML") from None
    if reason := folder.missing_weights_reason("qkv"):
        raise ValueError(reason)
    geometry = read_geometry(materialize(run.model))
    return ResolvedCheckpoint(scorable_checkpoint(run, folder), folder.path.name, geometry)
