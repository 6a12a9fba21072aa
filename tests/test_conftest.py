"""The suite's own rules, tried on small suites."""

import os
import subprocess
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
def test_what_ci_must_not_skip(run_suite, marker, ci, code):
    done = run_suite(SKIPPED.format(marker=marker), CI=ci)
    assert done.returncode == code, done.stdout
    assert ("CI does not allow" in done.stdout) == bool(code)


@pytest.mark.parametrize(("ci", "code"), [("1", 1), ("", 0)])
def test_without_bubblewrap_a_sandbox_test_is_skipped_with_what_to_install(
    run_suite, tmp_path, ci, code
):
    suite = SKIPPED.format(marker="sandbox").replace("pytest.skip", "pytest.fail")
    done = run_suite(suite, CI=ci, PATH=str(tmp_path))
    assert done.returncode == code and "`apt install bubblewrap`" in done.stdout, done.stdout


@pytest.fixture
def run_suite(preloaded, tmp_path):
    """Runs the suite's rules over one file of tests."""

    def run(suite: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
        (tmp_path / "test_it.py").write_text(suite)
        options = ("-o", f"pythonpath={CONFTEST.parent / 'processes'}", "-p", "no:cacheprovider")
        command = ("-m", "pytest", "-q", "-rs", *options, str(tmp_path))
        return preloaded.run(*command, cwd=tmp_path, env={**os.environ, **environment})

    return run


def test_shapes_are_checked():
    from alps.scores.pad import score

    with pytest.raises(Exception, match="Type-check error"):
        score(torch.zeros(4, 2), torch.zeros(4, 3))
