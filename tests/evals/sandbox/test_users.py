"""The hostile programs again, as a user who is not root and owns nothing."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import alps

NOBODY = 65534
TESTS = (
    "test_hostile.py",
    "test_availability.py",
    "test_process.py",
    "test_isolation.py",
    "test_limits.py",
)
HERE = Path(__file__).parent


def as_nobody(command, **options):
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return subprocess.run(command, capture_output=True, text=True, check=False, **who, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What a test needs, where everybody can read it, and a folder where everybody can write."""
    base = Path("/tmp") / f"alps-nobody-{os.getpid()}"
    base.mkdir(mode=0o755)
    shutil.copytree(Path(alps.__file__).parent, base / "source" / "alps")
    for path in (HERE.parent / "conftest.py", *(HERE / name for name in TESTS)):
        shutil.copy(path, base)
    work = base / "work"
    work.mkdir()
    work.chmod(0o777)
    yield base
    shutil.rmtree(base)


def python() -> str:
    """An interpreter that everybody can execute, of the version that the packages are made for."""
    own = f"python3.{sys.version_info.minor}"
    for path in (os.path.realpath(sys.executable), f"/usr/bin/{own}", f"/usr/local/bin/{own}"):
        if Path(path).exists() and os.access(path, os.X_OK):
            try:
                if as_nobody([path, "-c", "import ssl"]).returncode == 0:
                    return path
            except PermissionError:
                continue
    pytest.skip(f"no {own} that every user can execute")


@pytest.fixture(scope="module")
def reports(place):
    """File of tests -> its finished process; the longest beside the others, as it mostly waits."""
    packages = Path(pytest.__file__).parents[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{place / 'source'}:{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(place / "work"),
        "TMPDIR": str(place / "work"),
        "ALPS_CACHE_DIR": str(place / "work" / "cache"),
    }
    options = {"env": environment, "cwd": place / "work"}
    interpreter = python()
    why = "from alps.evals.sandbox.availability import *; "
    why += "print(available_backend() is None and unavailable_reason())"
    asked = as_nobody([interpreter, "-c", why], **options)
    assert asked.returncode == 0, asked.stderr
    if "does not start" in asked.stdout:
        pytest.skip(f"as nobody, {asked.stdout.strip()}")
    command = [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-p", "no:jaxtyping", "-W", "ignore", "-rs"]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        own = f"--basetemp={place / 'work' / name}.tmp"
        return as_nobody([*command, own, str(place / name)], **options)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TESTS, pool.map(run, TESTS), strict=True))


@pytest.mark.sandbox
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the tests themselves run as such a user")
@pytest.mark.parametrize("name", TESTS)
def test_an_ordinary_user_is_protected_as_well(reports, name):
    done = reports[name]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-2000:]
