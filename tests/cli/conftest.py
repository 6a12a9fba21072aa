"""The command line in this process: what `alps` in tests/conftest.py does without a new one."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., CompletedProcess[str]]]:
    """Types a command; returns its exit code and output as a finished process."""
    from alps.cli.__main__ import main

    root = logging.getLogger()
    before, environment = (root.handlers[:], root.level), dict(os.environ)

    def call(*arguments: str, check: int | None = None) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["alps", *arguments])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int), code
        assert check in (None, code), err + out
        return CompletedProcess(arguments, code, out, err)

    yield call
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    os.environ.clear()
    os.environ.update(environment)
