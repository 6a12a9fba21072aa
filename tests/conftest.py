"""What tests share: folders of their own, tiny runs, the command line, a hub on this machine.

The cache of converted models is shared by a session.
"""

import gc
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from jaxtyping import install_import_hook
from preloaded import Preloaded

os.environ["OMP_NUM_THREADS"] = "1"  # test processes share the cores; also makes sums repeatable
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
REPOSITORY = Path(__file__).resolve().parents[1]

# Shapes written in these modules are checked at every call a test makes.
CHECKED = (
    "alps.heads.head_pair",
    "alps.scores",
    "alps.localization.head_pairs",
    "alps.localization.scores",
    "alps.embedding.pooling",
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
    from alps.config.build import build, compose_config

    def make(*overrides: str, **changes):
        small = ["model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off"]
        run = build(compose_config([*small, f"output_dir={tmp_path}/outputs", *overrides]))
        return replace(run, **changes)

    return make


@pytest.fixture(scope="session")
def kept_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make_trained` keeps what it trained."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def make_trained(make_run, kept_outputs: Path):
    """A run as of `make_run` that has ended, with its task model, in the test's own folder.

    A session trains it once; each test has a copy. Who tests the training itself trains.
    """
    from alps.base.hashing import digest
    from alps.base.serialization import to_dict
    from alps.execute import execute
    from alps.runs.folder import RunFolder
    from alps.training.fit import fit

    def provide(run) -> None:
        settings = digest(to_dict(replace(run, output_dir="")))  # more than the key: logger, evals
        kept = kept_outputs / f"{run.key}-{settings[:12]}"
        if not kept.exists():
            begun = replace(run, output_dir=f"{kept}.begun")
            if (task := begun.task_run()) is not None:
                provide(task)
            execute(begun, fit)
            Path(begun.output_dir).rename(kept)
        shutil.copytree(kept, run.output_dir, dirs_exist_ok=True)
        for folder in Path(run.output_dir, "runs").iterdir():
            RunFolder(folder).write_run(RunFolder(folder).read_run())  # names its own outputs

    def make(*overrides: str):
        run = make_run(*overrides)
        provide(run)
        return run

    return make


@pytest.fixture
def wandb_records() -> Callable[[Path], list[dict]]:
    """Reads back what W&B recorded offline, with W&B's own reader: records by type, in order."""

    def read(folder: Path) -> list[dict]:
        (file,) = folder.glob("*.wandb")
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return read


@pytest.fixture
def wandb_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """W&B as on a new machine; it remembers settings and credentials for the whole process."""
    wandb = pytest.importorskip("wandb")
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")  # it asks the server for the name it would greet
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    wandb.teardown()
    yield wandb
    wandb.teardown()


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """Starts Python processes to which importing torch is no work."""
    server = Preloaded(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def preloaded_ranks(preloaded: Preloaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has torchrun start preloaded ranks; torchrun itself and what a rank runs stay the same."""
    monkeypatch.setenv("PYTHON_EXEC", str(preloaded.interpreter()))


@pytest.fixture
def alps(tmp_path: Path, preloaded: Preloaded):
    """Runs the command line in a folder of its own; returns the finished process."""

    def call(*arguments: str, check: int | None = None, **options):
        done = preloaded.run("-m", "alps.cli", *arguments, cwd=tmp_path, **options)
        if check is not None:
            assert done.returncode == check, done.stderr + done.stdout
        return done

    return call


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., CompletedProcess[str]]]:
    """Types a command in this process: what `alps` does without a new one."""
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


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one sentence with which a command refuses its arguments, leaving nothing behind."""

    def call(command: Callable[[Sequence[str]], None], *arguments: str) -> str:
        before = sorted(Path().rglob("*"))
        with pytest.raises(SystemExit) as end:
            command(arguments)
        assert end.value.code == 2
        out, err = capsys.readouterr()
        (line,) = [line for line in err.splitlines() if line]
        assert line.startswith("error: ") and out == ""
        assert sorted(Path().rglob("*")) == before
        return line.removeprefix("error: ")

    return call


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What HF_ENDPOINT does; the hub client reads it when it is imported."""
    from huggingface_hub import constants

    def change(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return change


@pytest.fixture
def cut_network(point_at: Callable[[str], None]) -> Callable[[], None]:
    """From its call on the hub client reaches nobody."""
    return lambda: point_at("http://127.0.0.1:9")  # nobody listens on the discard port


@pytest.fixture
def start_hub(
    monkeypatch: pytest.MonkeyPatch, point_at: Callable[[str], None]
) -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Starts a server on this machine that the hub client takes for the hub; its address."""
    from huggingface_hub import close_session, constants

    servers = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        point_at(address)
        return address

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    sleep = time.sleep  # the hub client waits with it before it repeats a request
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    close_session()
    yield start
    close_session()
    for server in servers:
        server.shutdown()
        server.server_close()


MUST_RUN = {"slurm", "browser", "sandbox", "latex"}
LONG_FILES = {
    "test_sharding.py", "test_page_controls_in_browser.py", "test_page_in_browser.py",
    "test_scoring.py", "test_overrides.py", "test_docs.py", "test_nodes.py",
    "test_callback_sharded.py", "test_callback.py", "test_back_off.py", "test_grid.py",
}  # fmt: skip
"""A minute each; begun first, so that both processes of pytest-xdist end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; under CI, what `MUST_RUN` marks fails where it would be skipped."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)
    if not os.environ.get("CI"):
        return
    for item in items:
        if {m.name for m in item.iter_markers()} & MUST_RUN:
            item.user_properties.append(("must_run", True))


def pytest_collection_finish() -> None:
    """Garbage collection passes over the modules and tests that stay until the end anyway.

    It takes a sixth of the time of tests that create many small objects, as compositions do.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test marked `sandbox` where generated code is refused, with that very sentence.

    A sandbox that starts and leaks skips nothing: its tests fail.
    """
    if item.get_closest_marker("sandbox") is None:
        return
    from alps.evals.sandbox.availability import (
        available_backend,
        isolation_failures,
        unavailable_reason,
    )
    from alps.evals.sandbox.backend import installed_backend

    if available_backend() is not None:
        return
    backend = installed_backend()
    if backend is None or isolation_failures(backend).startswith("does not start"):
        pytest.skip(unavailable_reason())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = (yield).get_result()
    lacks_data = "ALPS_DATA_DIR" in str(report.longrepr)  # which CI need not have
    if report.skipped and ("must_run", True) in item.user_properties and not lacks_data:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
