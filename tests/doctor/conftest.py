"""A machine of a test's own: no credentials, GPUs or SLURM but those it makes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from alps.cli.doctor import parse
from alps.doctor import context as context_module
from alps.doctor.context import Context
from alps.doctor.finding import Check, Finding
from alps.doctor.slurm_cluster import COMMANDS, Cluster
from alps.doctor.torch_build import TorchBuild

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "WANDB_MODE", "NETRC")
CPU_BUILD = TorchBuild(version="2.13.0+cpu")


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, and a torch that is not asked in a process of its own."""
    from huggingface_hub import constants

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(context_module, "probe_torch", lambda: CPU_BUILD)
    monkeypatch.setattr(context_module, "read_cluster", lambda: Cluster(absent=COMMANDS))


@cache
def parsed(*arguments: str) -> Context:
    """Composed once in a session; nothing has been asked of the machine yet."""
    return parse(arguments)[0]


@pytest.fixture
def make_context() -> Callable[..., Context]:
    """What `alps doctor` makes of its arguments; the smallest run without any."""

    def make(*arguments: str, tiny: bool = True) -> Context:
        small = ("model=tiny", "evals=none", "method=full") if tiny else ()
        context = parsed(*small, *arguments)
        return replace(context, findings=[], to_download=[])

    return make


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script into the only folder of the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def found(make_context: Callable[..., Context]) -> Callable[..., list[Finding]]:
    """Findings of a check for `alps doctor` with these arguments."""

    def call(check: Check, *arguments: str, tiny: bool = True, **values) -> list[Finding]:
        context = make_context(*arguments, tiny=tiny)
        for name, value in values.items():
            setattr(context, name, value)  # in place of what would be asked of this machine
        return list(check(context))

    return call
