"""Training and evaluation of a run on its devices: in this process, or in torchrun workers.

Workers start from the *resolved* run folder. Lightning's launcher would repeat the command line in
each worker, which under `-m` is the whole sweep.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import yaml

import alps
from alps.base.atomic import write_text
from alps.base.serialization import to_dict
from alps.launch.address import Address
from alps.launch.devices import resolve_devices
from alps.launch.nodes import Connection, FirstNode, join
from alps.runs.completion import evaluation_folders
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
STOP_SECONDS = 45
"""Longest wait for workers to end on request; torchrun kills its own after 30 s."""

LAUNCHER_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_",
    "TORCHELASTIC_",
    "SLURM_",
)
"""Environment variables of a surrounding launcher, hidden from our ranks."""


def fit_on_devices(run: Run, nodes: FirstNode | None = None) -> None:
    """Trains and evaluates `run` on its devices, and records which they are.

    Args:
        run: The run.
        nodes: Connections to the other nodes, if there are several.

    Raises:
        RunFailed: With the message of the rank that failed first.
        SystemExit: If a signal stopped the training; a checkpoint was written.
    """
    folder, resolved = RunFolder(run.folder), resolve_devices(run)
    if resolved is not run:
        folder.write_run(resolved)
    if resolved.trainer.world_size == 1:
        from alps.evals.callback import EvaluationCallback
        from alps.training.fit import fit

        fit(resolved, [EvaluationCallback(resolved)])
        return
    _on_ranks(resolved, folder, nodes=nodes)


def evaluate_on_devices(run: Run, trained: bool) -> None:
    """Evaluates `run.evals` on several local devices; does nothing for one device, or `auto`.

    Args:
        run: The run.
        trained: Whether the trained model is evaluated, or the base model.

    Raises:
        RunFailed: With the message of the rank that failed first.
    """
    if run.trainer.num_devices == 1:
        return
    folder = RunFolder(run.folder if trained else run.base_folder)
    with ExitStack() as locks:
        for path in sorted(
            {folder.path, *(p.folder.path for p in evaluation_folders(run, trained))}
        ):
            locks.enter_context(RunFolder(path).lock())
        write_text(folder.path / "examine.yaml", yaml.safe_dump(to_dict(run), sort_keys=False))
        _on_ranks(run, folder, "examine")


def follow_first_node(run: Run, address: Address) -> int:
    """Works for the first node until its command ends; returns the exit code."""
    work = partial(run_workers_of_node, Path(run.output_dir))
    try:
        return join(run.trainer, address, work)
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run_workers_of_node(output_dir: Path, order: Mapping[str, Any], first: Connection) -> int:
    """Workers of a node that is not the first; returns their exit code.

    Args:
        output_dir: Outputs, which the nodes share.
        order: The first node's order.
        first: Connection to the first node, whose end ends the workers.
    """
    folder, devices = output_dir / order["folder"], order["devices"]
    command = [*_command(folder, devices, order["torchrun"]), *order["arguments"]]
    return _run_workers(command, _environment(devices), first.has_stop)


def _on_ranks(run: Run, folder: RunFolder, *arguments: str, nodes: FirstNode | None = None) -> None:
    assert (nodes is not None) == (run.trainer.num_nodes > 1), "nodes have not met"
    logs = folder.path / "ranks"
    while (reason := _failure_on_ranks(run, folder, arguments, nodes)) is not None:
        # Nodes do not meet a second time; the same command goes on with the smaller micro-batch.
        if nodes is not None or not any(error.get("again") for error in _errors(logs)):
            raise RunFailed(reason)
        log.warning("%s: %s", run.key, reason)


def _failure_on_ranks(
    run: Run, folder: RunFolder, arguments: Sequence[str], nodes: FirstNode | None
) -> str | None:
    """Runs all workers to their end; returns why they failed, or None."""
    logs, devices = folder.path / "ranks", run.trainer.num_devices
    for old in logs.glob("*.error.json"):
        old.unlink()
    if nodes is None:
        command = [*_command(folder.path, devices, ["--standalone"]), *arguments]
        code, reason = _run_workers(command, _environment(devices)), None
    else:
        place = folder.path.relative_to(run.output_dir)
        command = [*_command(folder.path, devices, nodes.start(place, arguments, devices))]
        code = _run_workers([*command, *arguments], _environment(devices), nodes.has_failed)
        if code or nodes.failure is not None:
            nodes.stop()
        nodes.wait_until_idle(STOP_SECONDS)
        code, reason = code or nodes.failure is not None, nodes.failure
    if not code:
        return None
    message = first_error(logs) or f"a worker process ended with code {code}; see {logs}"
    if reason is not None and (nodes is None or nodes.lost or not first_error(logs)):
        message = reason
    if nodes is not None:
        nodes.error = message
    return message


def first_error(logs: Path) -> str | None:
    """Message of a rank that was killed, else of the first; later ones are lost connections."""
    errors = _errors(logs)
    first = lambda e: (not e.get("killed", False), e["time"])  # noqa: E731
    return min(errors, key=first)["message"] if errors else None


def _errors(logs: Path) -> list[dict[str, Any]]:
    """Errors of ranks: `time`, `message`, `again` if all ranks are to start again, `killed`."""
    return [json.loads(p.read_text()) for p in logs.glob("*.error.json")]


def die_with_parent(parent: int | None = None) -> None:
    """Makes Linux send SIGTERM to this process when its parent ends for any reason."""
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
    except (OSError, AttributeError):
        return  # not Linux: workers may outlive a killed parent
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _command(folder: Path, devices: int, rendezvous: Sequence[str]) -> list[str]:
    logs = folder / "ranks"
    torchrun = [sys.executable, "-m", "alps.launch.torchrun", str(logs), *rendezvous]
    ranks = ["--max-restarts=0", f"--nproc-per-node={devices}", f"--log-dir={logs}", "--tee=3"]
    return [*torchrun, *ranks, "-m", "alps.launch.worker", str(folder)]


def _environment(devices: int) -> Mapping[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER_VARIABLES)}
    source = str(Path(alps.__file__).parents[1])  # supports a checkout that is not installed
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH")) if p)
    threads = max(1, (os.cpu_count() or 1) // devices)  # torchrun's default is one
    return {"OMP_NUM_THREADS": str(threads), **kept, "PYTHONPATH": path}


def prepare_child(parent: int) -> None:
    """Between fork and exec: the child ends with its parent, which alone handles SIGUSR2."""
    # SLURM signals every process of a job before its time limit; only the parent handles it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    die_with_parent(parent)


def _run_workers(
    command: list[str],
    environment: Mapping[str, str],
    must_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Runs torchrun in its own session, forwards signals to it, and ends it with this process.

    Args:
        command: torchrun.
        environment: Its environment.
        must_stop: Asked repeatedly: whether another node has ended.
    """
    me = os.getpid()
    process = subprocess.Popen(
        command,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=lambda: prepare_child(me),
    )
    received: list[int] = []

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if len(received) == 1 else signal.SIGKILL)

    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in watched}
    try:
        code = _wait(process, must_stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(128 + received[0])
    return code


def _wait(process: subprocess.Popen[bytes], must_stop: Callable[[], bool]) -> int:
    """Waits for torchrun; ends it if another node has ended, and kills it if it doesn't end."""
    kill_at: float | None = None
    while True:
        try:
            return process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if kill_at is None and must_stop():
                process.terminate()
                kill_at = time.monotonic() + STOP_SECONDS
            elif kill_at is not None and time.monotonic() > kill_at:
                process.kill()
