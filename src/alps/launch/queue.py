"""The runs of a sweep on this machine's devices: as many at once as there are devices.

Each run is a process of its own, started from the resolved run, and writes to `train.log` in its
folder. A run that takes several devices waits until they are free. Nothing overtakes it: task
models come first, then the runs with most devices.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alps
from alps.base.serialization import to_dict
from alps.launch.devices import num_gpus, resolve_devices
from alps.launch.ranks import prepare_child
from alps.runs.completion import has_nothing_left, missing_task_model, num_task_models
from alps.runs.folder import RunFolder
from alps.settings.run import Run

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


@dataclass(eq=False, kw_only=True)
class Entry:
    """A run in the queue.

    Attributes:
        run: The run; `trainer.devices=auto` is resolved again by its own process.
        needs: Runs that must end before: its task model, or the same run for other benchmarks.
        task_model: Whether it is the task model of another run.
        devices: Devices it asks for.
        num_taken: As many of them as this machine has.
        taken: Numbers of the devices it runs on.
        process: Its process, once started.
        failure: Why it failed, once it has ended.
        ended: Whether it has ended.
        stopping: Whether it was asked to stop.
    """

    run: Run
    needs: list[Entry] = field(default_factory=list)
    task_model: bool = False
    devices: int = 1
    num_taken: int = 1
    taken: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    failure: str | None = None
    ended: bool = False
    stopping: bool = False


def pending_entries(runs: Sequence[Run]) -> list[Entry]:
    """The unfinished runs without repetitions, and the missing task models that they need."""
    entries: list[Entry] = []

    def add(run: Run) -> Entry:
        for entry in entries:
            if entry.run == run:
                return entry
        entry = Entry(run=run, needs=[e for e in entries if e.run.key == run.key])
        if (task := missing_task_model(run)) is not None:
            needed = next((e for e in entries if e.run.key == task.key), None) or add(task)
            needed.task_model = True
            entry.needs.append(needed)
        entries.append(entry)
        return entry

    for run in sorted(runs, key=num_task_models):  # a sweep's own runs serve as task models
        if not has_nothing_left(run):
            add(run)
    return entries


def run_queue(
    entries: Sequence[Entry],
    parallel: int,
    on_run_ended: Callable[[], None],
    fail_fast: bool = False,
) -> Mapping[str, str]:
    """Executes all runs and returns the failures; each is printed as it happens.

    Args:
        entries: Pending runs.
        parallel: Devices of this machine, for one run each.
        on_run_ended: Called whenever a run has ended.
        fail_fast: Whether the first failure stops the others, with checkpoints.

    Returns:
        Key of each failed run -> reason.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when all runs have stopped with their checkpoints.
        SystemExit: After another signal, likewise.
    """
    for entry in entries:
        entry.devices = _num_devices(entry.run)
        entry.num_taken = min(parallel, entry.devices)
    free = list(range(parallel))
    with _signals() as received:
        try:
            while any(not entry.ended for entry in entries):
                if not received:
                    _fail_without_task_model(entries)
                    for entry in _startable(entries, len(free)):
                        entry.taken, free = free[: entry.num_taken], free[entry.num_taken :]
                        _start(entry, parallel)
                running = [e for e in entries if e.process is not None and not e.ended]
                if received and not running:
                    break
                for entry in running:
                    if _has_ended(entry):
                        free = sorted([*free, *entry.taken])
                        _report(entry, entries)
                        on_run_ended()
                if fail_fast:
                    _stop_after_failure(entries)
                time.sleep(POLL_SECONDS)
                _forward(received, running)
        finally:
            for entry in entries:  # after an error of our own
                if entry.process is not None and entry.process.poll() is None:
                    entry.process.terminate()
    if received:
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + received[0])
    return {entry.run.key: entry.failure for entry in entries if entry.failure is not None}


def _startable(entries: Sequence[Entry], num_free: int) -> Iterator[Entry]:
    """Runs to start now, in order, until one has to wait for more devices."""
    waiting = [e for e in entries if e.process is None and not e.ended]
    ready = [e for e in waiting if all(needed.ended for needed in e.needs)]
    for entry in sorted(ready, key=lambda e: (not e.task_model, -e.num_taken)):
        if entry.num_taken > num_free:
            return
        num_free -= entry.num_taken
        yield entry


def _start(entry: Entry, parallel: int) -> None:
    folder = RunFolder(entry.run.folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    me = os.getpid()
    with (folder.path / "train.log").open("ab") as output:
        entry.process = subprocess.Popen(
            _command(),
            env=_environment(entry, parallel),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only this process
            preexec_fn=lambda: prepare_child(me),
        )
    assert entry.process.stdin is not None
    try:
        entry.process.stdin.write(json.dumps(_request(entry)).encode())
        entry.process.stdin.close()
    except BrokenPipeError:
        pass  # it has ended already, which is reported
    where = ", ".join(map(str, entry.taken))
    log.info("%s: started on device %s, log: %s", entry.run.key, where, folder.path / "train.log")


def _request(entry: Entry) -> Mapping[str, Any]:
    return {"run": to_dict(entry.run), "needs": "qkv" if entry.task_model else "drop"}


def _command() -> list[str]:
    return [sys.executable, "-m", "alps.launch.run_process"]


def _environment(entry: Entry, parallel: int) -> Mapping[str, str]:
    source = str(Path(alps.__file__).parents[1])  # supports a checkout that is not installed
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH")) if p)
    threads = max(1, (os.cpu_count() or 1) // max(parallel, entry.devices))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": path}
    gpus = num_gpus(entry.run.trainer)
    if gpus and len(entry.taken) < parallel:  # else it has all
        own = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = own.split(",") if own else [str(i) for i in range(gpus)]
        chosen = dict.fromkeys(names[i % gpus] for i in entry.taken)
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    return environment


def _has_ended(entry: Entry) -> bool:
    """Whether the process has ended; if so, with the reason of a failure."""
    assert entry.process is not None
    code = entry.process.poll()
    if code is None:
        return False
    entry.ended = True
    folder = RunFolder(entry.run.folder)
    status = folder.status()
    if code == 0:
        return True
    if status["state"] in ("failed", "stopped") and status.get("pid") == entry.process.pid:
        entry.failure = status["reason"]
    if code < 0:
        entry.failure = f"its process was killed ({signal.Signals(-code).name})"
        if folder.settings_path.exists():
            folder.set_status("stopped", entry.failure)
    elif entry.failure is None:
        entry.failure = f"its process ended with code {code}; see {folder.path / 'train.log'}"
    return True


def _report(entry: Entry, entries: Sequence[Entry]) -> None:
    if entry.failure is not None:
        print(f"error: {entry.run.key}: {entry.failure}", file=sys.stderr, flush=True)
        return
    done = sum(e.ended for e in entries)
    log.info("%s: finished, %d of %d runs", entry.run.key, done, len(entries))


def not_started(failed: str) -> str:
    """Why a run was not started after a failure."""
    return f"not started, as {failed} failed (fail_fast=true); the same command goes on from there"


def _stop_after_failure(entries: Sequence[Entry]) -> None:
    """Ends the queue once a run has failed: what runs stops, the rest is not started."""
    failed = next((e.run.key for e in entries if e.failure is not None), None)
    for entry in entries if failed is not None else ():
        if entry.ended:
            continue
        if entry.process is None:
            entry.ended, entry.failure = True, not_started(failed or "")
        elif not entry.stopping:
            entry.process.terminate()
            entry.stopping = True


def _fail_without_task_model(entries: Sequence[Entry]) -> None:
    """Fails the runs whose task model has failed: no device could help them."""
    for entry in entries:
        failed = [e for e in entry.needs if e.failure is not None and e.run.key != entry.run.key]
        if failed and not entry.ended:
            task = failed[0]
            entry.ended = True
            entry.failure = f"its task model {task.run.key} failed: {task.failure}"
            folder = RunFolder(entry.run.folder)
            with folder.lock():
                folder.write_run(entry.run)
                folder.set_status("failed", entry.failure)
            _report(entry, entries)
            _fail_without_task_model(entries)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop."""
    received: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, frame: received.append(number)) for n in watched}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forward(received: Sequence[int], running: Sequence[Entry]) -> None:
    """Stops the runs after a first signal, with checkpoints; kills them after a second."""
    for entry in running if received else ():
        assert entry.process is not None
        if len(received) > 1:
            entry.process.kill()
        elif not entry.stopping:
            entry.process.terminate()
            entry.stopping = True


def _num_devices(run: Run) -> int:
    if RunFolder(run.folder).has_weights():
        return 1  # only benchmarks are missing, and one process runs them
    return resolve_devices(run).trainer.num_devices
