"""The suite's own rules, tried on small suites."""

import os
import signal
import subprocess
import time
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


@pytest.mark.parametrize(
    ("code", "end"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9), ("os.kill(os.getppid(), 9)", -9)],
)
def test_a_preloaded_interpreter_ends_as_its_process(preloaded, code, end):
    done = subprocess.run(
        [preloaded.interpreter(), "-u", "-c", f"import os, sys; print('here'); {code}"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (end, "here\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_a_preloaded_interpreter_reaches_its_process(preloaded, tmp_path, number):
    """The way of torchrun with its ranks, which die with their parent."""
    code = (
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from alps.launch.ranks import die_with_parent\n"
        "def end(*_): Path('ended').touch(); os._exit(4)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "die_with_parent()\n"
        "print('ready')\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [preloaded.interpreter(), "-u", "-c", code], cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(30) == (4 if number == signal.SIGTERM else -9)
    for _ in range(300):
        if (tmp_path / "ended").exists():
            return
        time.sleep(0.1)
    raise AssertionError("the process lives on")
