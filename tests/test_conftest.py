"""The suite's own rules, tried on small suites."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CONFTEST = Path(__file__).with_name("conftest.py")
SKIPPED = """
import pytest

@pytest.mark.{marker}
def test_it():
    pytest.skip("no such thing here")
"""


@pytest.mark.parametrize(
    ("marker", "ci", "code"),
    [("slurm", "1", 1), ("sandbox", "1", 1), ("gpu", "1", 0), ("slurm", "", 0)],
)
def test_what_ci_must_not_skip(tmp_path, marker, ci, code):
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text(SKIPPED.format(marker=marker))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("CI does not allow" in done.stdout) == bool(code)


def test_shapes_are_checked():
    from alps.scores.pad import score

    with pytest.raises(Exception, match="Type-check error"):
        score(torch.zeros(4, 2), torch.zeros(4, 3))
