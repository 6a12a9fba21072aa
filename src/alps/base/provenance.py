"""Provenance of results: package versions, commit of the code, and time."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("alps", "torch", "transformers", "pytorch-lightning", "hydra-core", "peft", "datasets")


def utc_now() -> str:
    """Current time in UTC, in ISO format, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def versions() -> dict[str, str]:
    """Installed versions of the packages that affect results."""
    return versions_of(PACKAGES)


@cache
def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of some packages."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this code runs from, or (None, None)."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # not inside another checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
