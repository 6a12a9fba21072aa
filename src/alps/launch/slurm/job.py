"""One job: `python -m alps.launch.slurm.job FOLDER ID FIRST INDEX`, started by srun on each node.

This is the only place that requeues. SLURM sends SIGUSR2 before the time limit: the training writes
a checkpoint, and the job goes back into the queue. What SLURM itself takes away (by preemption,
`scontrol requeue` or a lost node) it also starts again; SIGTERM, if it came, has written a
checkpoint by then.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from alps.base.atomic import write_text
from alps.launch.slurm.cluster import SlurmError, is_preempted, requeue_job
from alps.launch.slurm.fail_fast import cancel_if_lost, cancel_others
from alps.launch.slurm.submission import Array, Attempt, Entry, Submission, needed_by_jobs
from alps.runs.folder import RunFolder, slurm_job
from alps.runs.result import RunFailed
from alps.settings.run import Run

log = logging.getLogger(__name__)

REQUEUE_SECONDS = 60
"""How long a job that has requeued itself waits for SLURM to end it."""


class TimeIsUp:
    """Turns SLURM's signal before the time limit into a stop of the training."""

    def __init__(self, signal_seconds: int):
        """Nothing has arrived yet.

        Args:
            signal_seconds: Time between the signal and the limit.
        """
        self.arrived = False
        self.signal_seconds = signal_seconds

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handles SIGUSR2 inside the block.

        A training has a SIGTERM handler: it receives SIGTERM and completes its step. Anything else,
        and a training that does not stop in time, is interrupted.
        """
        before = signal.getsignal(signal.SIGUSR2)
        idle = signal.getsignal(signal.SIGTERM)
        again = threading.Timer(0.7 * self.signal_seconds, os.kill, (os.getpid(), signal.SIGUSR2))
        again.daemon = True  # does not keep a stopped process alive

        def stop(number: int, frame: Any) -> None:
            if self.arrived or signal.getsignal(signal.SIGTERM) == idle:
                self.arrived = True
                raise SystemExit(128 + number)
            self.arrived = True
            again.start()
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, stop)
        try:
            yield
        finally:
            again.cancel()
            signal.signal(signal.SIGUSR2, signal.SIG_IGN if self.arrived else before)


def main(arguments: Sequence[str]) -> int:
    """Does the work of one entry; returns the exit code.

    Args:
        arguments: Folder and id of the submission, number of the array's first entry, and element.
    """
    folder, submitted, first, index = arguments
    submission = Submission.read(Path(folder))
    if submission.id != submitted:
        print(
            f"error: {folder} now belongs to another submission: nothing was run", file=sys.stderr
        )
        return 1
    script = submission.script(Array(first=int(first), count=1))
    attempt = next(a for a in submission.attempts() if (a.script, a.index) == (script, int(index)))
    attempt.failed_path.unlink(missing_ok=True)  # of an earlier start of this job
    try:
        code = _main(attempt)
    except Exception as error:
        reason = str(error) or type(error).__name__
        print(f"error: {attempt.entry.key}: {reason}", file=sys.stderr)
        write_text(attempt.failed_path, " ".join(reason.split()))
        if submission.fail_fast and not submission.failed_path.exists():
            cancel_others(attempt)
        return 1
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # what is left to do is short
    if code == 0:
        free_disk(submission)
        cancel_if_lost(submission)
    return code


def _main(attempt: Attempt) -> int:
    submission, entry = attempt.submission, attempt.entry
    cancel_if_lost(submission)
    if submission.failed_path.exists():
        raise RunFailed(
            f"not started, as {submission.failed_path.read_text()} failed (fail_fast=true)"
        )
    run = entry.run
    signal.signal(signal.SIGTERM, _stop)  # a training has a handler of its own
    os.environ.setdefault("OMP_NUM_THREADS", str(_num_threads(run, submission.slurm.cpus)))
    if entry.kind == "train" and run.trainer.num_nodes > 1:
        from alps.launch.address import find_address
        from alps.launch.ranks import follow_first_node

        address = find_address(run.trainer)
        if address.node_rank:
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the first node handles it
            try:
                return follow_first_node(run, address)
            except ValueError as error:
                print(f"error: {entry.key}: {error}", file=sys.stderr)
                return 1
    time_is_up = TimeIsUp(submission.slurm.signal_seconds)
    try:
        with _logged(entry), time_is_up.watched():
            _work(entry, run)
    except SystemExit as ended:
        if not time_is_up.arrived:
            _give_way()
            raise
        return _requeue(attempt, ended)
    return 0


def free_disk(submission: Submission) -> None:
    """Applies the retention policy to the finished runs of a submission."""
    if submission.weights == "keep":
        return
    from alps.pipeline.retention import reduce_unneeded

    try:
        runs = [entry.run for entry in submission.entries if entry.kind == "train"]
        output_dir = submission.folder.parents[1]
        needed = {*submission.protected, *needed_by_jobs(output_dir)}
        reduce_unneeded(runs, submission.weights, needed)
    except Exception as error:  # the run is done
        log.warning("the weights of finished runs stay as they are: %s", error)


def _work(entry: Entry, run: Run) -> None:
    if entry.kind == "evaluate":
        from alps.evals.run_models import evaluate_base
        from alps.pipeline.wandb_record import track_base

        evaluate_base(run)
        track_base(run)
        return
    if run.key != entry.key:
        raise RunFailed(
            f"submitted as {entry.key}, but these settings now give {run.key} (another version of "
            "alps, or changed data or base model): submit them again"
        )
    from alps.execute import execute
    from alps.launch.ranks import fit_on_devices

    with ExitStack() as stack:
        nodes = None
        if run.trainer.num_nodes > 1:
            from alps.launch.address import find_address
            from alps.launch.nodes import first_node

            nodes = stack.enter_context(first_node(run.trainer, find_address(run.trainer)))
        execute(run, partial(fit_on_devices, nodes=nodes), entry.weights)
        if nodes is not None:
            nodes.exit_code = 0


def _stop(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _give_way() -> None:
    """Puts a job back that stops in the grace time of a preemption.

    SLURM requeues what it has to kill after that time; a job that ends before by itself is over.
    """
    try:
        job = slurm_job()
        if job is not None and is_preempted(job):
            requeue_job(job)
            time.sleep(REQUEUE_SECONDS)
    except SlurmError as error:
        log.warning("preempted, but not requeued: %s", error)


def _requeue(attempt: Attempt, ended: SystemExit) -> int:
    """Puts this job back into the queue, unless it was cancelled or its time was up too often."""
    if attempt.cancelled_path.exists():
        return int(ended.code or 1)
    counter, largest = attempt.timeouts_path, attempt.submission.slurm.max_timeouts
    times = int(counter.read_text()) if counter.exists() else 0
    if times >= largest:
        raise RunFailed(
            f"the job reached its time limit more than hydra.launcher.max_timeouts={largest} "
            "times; `alps retry` resumes it from its last checkpoint"
        )
    write_text(counter, str(times + 1))
    requeue_job(slurm_job() or "")
    time.sleep(REQUEUE_SECONDS)
    return int(ended.code or 1)


def _num_threads(run: Run, cpus: int) -> int:
    """Threads of each rank: they share the CPUs of the job, not of the node."""
    devices = run.trainer.devices
    if devices == "auto":
        devices = int(os.environ.get("SLURM_GPUS_ON_NODE") or 1)
    return max(1, cpus // devices)


@contextmanager
def _logged(entry: Entry) -> Iterator[None]:
    """Logs to the job's output, and to `train.log` of a run, as without a job."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if entry.kind == "train":
        folder = RunFolder(entry.run.folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder.path / "train.log"))
    line = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(line)
        root.addHandler(handler)
    try:
        yield
    except Exception:
        root.exception("the run failed")
        raise
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
