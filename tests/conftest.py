"""Every test works in folders of its own; the cache of converted models is shared by a session."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ["OMP_NUM_THREADS"] = "1"  # test processes share the cores; also makes sums repeatable
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
REPOSITORY = Path(__file__).resolve().parents[1]

# Shapes written in these modules are checked at every call a test makes.
CHECKED = (
    "alps.head_pair",
    "alps.scores",
    "alps.localization.head_pairs",
    "alps.localization.scored",
    "alps.embedding.pooled",
    "alps.embedding.measures",
    "alps.models.head_linear",
    "alps.models.loss",
)
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "alps-cache"
    os.environ["ALPS_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    workerinput = getattr(request.config, "workerinput", {})
    return workerinput.get("workerid", "master")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets where it writes writes here, not into the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_run(tmp_path: Path):
    """A tiny run from command-line settings, with its outputs in the test's own folder."""
    from alps.config import build, compose_config

    def make(*overrides: str, **changes):
        small = ["model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off"]
        run = build(compose_config([*small, f"output_dir={tmp_path}/outputs", *overrides]))
        return replace(run, **changes)

    return make


@pytest.fixture
def alps(tmp_path: Path):
    """Runs the command line in a folder of its own; returns the finished process."""

    def call(*arguments: str, check: int | None = None, **options):
        done = subprocess.run(
            [sys.executable, "-m", "alps.cli", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            **options,
        )
        if check is not None:
            assert done.returncode == check, done.stderr + done.stdout
        return done

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under CI a `slurm`, `browser` or `sandbox` test that would be skipped fails instead."""
    if not os.environ.get("CI"):
        return
    for item in items:
        if {m.name for m in item.iter_markers()} & {"slurm", "browser", "sandbox"}:
            item.user_properties.append(("must_run", True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = (yield).get_result()
    if report.skipped and ("must_run", True) in item.user_properties:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
