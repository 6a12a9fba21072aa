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
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

import alps
from alps.base.atomic import write_text
from alps.base.serialization import to_dict
from alps.launch.devices import resolve_devices
from alps.runs.completion import evaluation_folders
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run

log = logging.getLogger(__name__)

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


def fit_on_devices(run: Run) -> None:
    """Trains and evaluates `run` on its devices, and records which they are.

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
    _on_ranks(resolved, folder)


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


def _on_ranks(run: Run, folder: RunFolder, *arguments: str) -> None:
    logs = folder.path / "ranks"
    command = [*_command(run, folder.path), *arguments]
    again = True
    while again:
        for old in logs.glob("*.error.json"):
            old.unlink()
        code = _run_workers(command, _environment(run.trainer.num_devices))
        reason = first_error(logs) or f"a worker process ended with code {code}; see {logs}"
        again = bool(code) and any(error.get("again") for error in _errors(logs))
        if again:
            log.warning("%s: %s", run.key, reason)
        elif code:
            raise RunFailed(reason)


def first_error(logs: Path) -> str | None:
    """Message of the rank that failed first; later errors are lost connections."""
    errors = _errors(logs)
    return min(errors, key=lambda e: e["time"])["message"] if errors else None


def _errors(logs: Path) -> list[dict[str, Any]]:
    """Errors of ranks: `time`, `message`, `again` if all ranks are to start again."""
    return [json.loads(p.read_text()) for p in logs.glob("*.error.json")]


def die_with_parent(parent: int | None = None) -> None:
    """Makes Linux send SIGTERM to this process when its parent ends for any reason."""
    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
    except (OSError, AttributeError):
        return  # not Linux: workers may outlive a killed parent
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _command(run: Run, folder: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
    ranks = [
        f"--nproc-per-node={run.trainer.num_devices}",
        f"--log-dir={folder / 'ranks'}",
        "--tee=3",
    ]
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


def _run_workers(command: list[str], environment: Mapping[str, str]) -> int:
    """Runs torchrun in its own session, forwards signals to it, and ends it with this process."""
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
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(128 + received[0])
    return code
