"""Downloads the data files of a dataset on the Hugging Face hub into the hub's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from alps.data.files.read import row_files
from alps.models.hub import CONNECTION_ERRORS, error_reason, translate_hub_errors


def download(repo: str, revision: str, patterns: Sequence[str] = ()) -> Path:
    """Folder with the files of a dataset that match the patterns.

    Cached files are not downloaded again; those of a full commit hash need no request. Without
    network, the cached files of the revision are used.

    Args:
        repo: Hub id, `org/name`.
        revision: Branch, tag or commit.
        patterns: Names of files (`data/train-*`); empty for all.

    Raises:
        ValueError: If the files cannot be downloaded; one sentence.
    """
    at = f"{repo}@{revision}"
    local = "give a local copy with data.path=<file or folder>"
    try:
        with translate_hub_errors(
            at, f"data.hub={repo}", "dataset", f"if it has moved, set data.hub, or {local}"
        ):
            folder = Path(
                snapshot_download(
                    repo,
                    repo_type="dataset",
                    revision=revision,
                    allow_patterns=list(patterns) or None,
                )
            )
    except (OSError, *CONNECTION_ERRORS) as error:
        raise ValueError(
            f"{at} cannot be downloaded ({_cause(error)}) and is not in the hub cache: "
            f"connect to the network, or {local}"
        ) from None
    if not _has_data_files(folder, patterns):
        lack = f"has no file named {', '.join(patterns)}" if patterns else "has no file of rows"
        raise ValueError(f"{at} {lack}: set data.files to names it has, or {local}")
    return folder


def is_cached(repo: str, revision: str, patterns: Sequence[str] = ()) -> bool:
    """Whether the hub's cache has files of a dataset that match the patterns."""
    try:
        folder = snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(patterns) or None,
            local_files_only=True,
        )
    except (OSError, ValueError):
        return False
    return _has_data_files(Path(folder), patterns)


def _has_data_files(folder: Path, patterns: Sequence[str]) -> bool:
    try:
        return folder.is_dir() and bool(row_files(folder, patterns))
    except ValueError:
        return False


def _cause(error: Exception) -> str:
    """The cause of the hub client's error, whose own message has several lines."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return error_reason(error.__cause__ if isinstance(error.__cause__, Exception) else error)
