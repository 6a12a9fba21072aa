"""A run inside a SLURM job: stopped before the time limit and requeued.

submitit starts this on a compute node. SLURM sends SIGUSR2 before the time limit; the training
writes a checkpoint, and the requeued job resumes from it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alps.base.serialization import from_dict
from alps.runs.folder import RunFolder
from alps.settings.run import Run

Handler = Callable[[int, Any], Any]


@dataclass
class TrainingJob:
    """Trains and evaluates a run in a job; submitit pickles it.

    Attributes:
        cpus: CPUs of the job, shared by its ranks.
        signal_seconds: Time of SLURM's signal before the limit.
        time_is_up: Whether the signal has arrived.
    """

    cpus: int
    signal_seconds: int
    time_is_up: bool = field(default=False, init=False)

    def __call__(self, plain: Mapping[str, Any]) -> None:
        """Executes the serialized run; results are in its folder."""
        run = from_dict(plain, Run, check=False)
        # Threads for the CPUs of the job, not of the node; set before torch is imported.
        devices = run.trainer.devices
        if devices == "auto":
            devices = int(os.environ.get("SLURM_GPUS_ON_NODE") or 1)
        threads = max(1, self.cpus // devices)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        from alps.execute import execute
        from alps.launch.ranks import fit_on_devices

        folder = RunFolder(run.folder)
        with _logged(folder), self._stopped_in_time() as requeue:
            try:
                execute(run, fit_on_devices)
            except SystemExit:
                if self.time_is_up:
                    self._go_on_later(folder, requeue)
                raise

    def checkpoint(self, plain: Mapping[str, Any]) -> Any:
        """Submission of the requeued job: the same run, whose folder has the checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(TrainingJob(self.cpus, self.signal_seconds), plain)

    @contextmanager
    def _stopped_in_time(self) -> Iterator[Handler]:
        """Turns SIGUSR2 into a stop; yields submitit's handler, which requeues the job.

        That handler ends the process at once. A training with a SIGTERM handler receives SIGTERM
        instead and completes its step; anything else, and a training that does not stop in time, is
        interrupted.
        """
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        idle = signal.getsignal(signal.SIGTERM)
        me = os.getpid()
        # A daemon does not keep a stopped process alive.
        again = threading.Timer(0.7 * self.signal_seconds, os.kill, (me, signal.SIGUSR2))
        again.daemon = True

        def stop(number: int, frame: Any) -> None:
            if self.time_is_up or signal.getsignal(signal.SIGTERM) == idle:
                self.time_is_up = True
                raise SystemExit(128 + number)
            self.time_is_up = True
            again.start()
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, stop)
        try:
            yield requeue
        finally:
            again.cancel()
            signal.signal(signal.SIGUSR2, requeue)

    def _go_on_later(self, folder: RunFolder, requeue: Handler) -> None:
        from submitit.core.utils import UncompletedJobError

        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the timer's, if it is late
        try:
            requeue(signal.SIGUSR2, None)  # ends the process
        except UncompletedJobError:
            folder.set_status(
                "failed",
                "the job's time was up more often than hydra.launcher.max_timeouts allows; the "
                "same command goes on from the last resume point",
            )


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Logs to the job's output and to `train.log`, as without a job."""
    folder.path.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(folder.path / "train.log")]
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
