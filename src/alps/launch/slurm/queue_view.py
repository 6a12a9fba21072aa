"""Which attempts are in the queue, as of one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alps.launch.slurm.cluster import ENDED, QueuedJob, job_state, queued_jobs
from alps.launch.slurm.submission import Attempt


@dataclass(kw_only=True)
class QueueView:
    """The queue at one moment.

    Attributes:
        attempts: Key -> its last attempt.
        jobs: Jobs in the queue by id; None if the queue was not asked.
    """

    attempts: Mapping[str, Attempt]
    jobs: Mapping[str, QueuedJob] | None = None
    _found: dict[str, QueuedJob | None] = field(default_factory=dict)

    @classmethod
    def now(cls, attempts: Mapping[str, Attempt]) -> QueueView:
        """Asks the queue.

        Raises:
            QueueUnavailable: If it does not answer.
        """
        return cls(attempts=attempts, jobs=queued_jobs())

    def job(self, key: str) -> QueuedJob | None:
        """The job of a key's last attempt, if it is in the queue.

        Raises:
            QueueUnavailable: If the controller does not answer.
        """
        if key not in self._found:
            attempt = self.attempts.get(key)
            self._found[key] = self._find(attempt) if attempt else None
        return self._found[key]

    def _find(self, attempt: Attempt) -> QueuedJob | None:
        if self.jobs is None:
            return None
        if attempt.job is None:
            own = (j for j in self.jobs.values() if j.script == str(attempt.script))
            return next((j for j in own if j.id.endswith(f"_{attempt.index}")), None)
        if attempt.job in self.jobs:
            return self.jobs[attempt.job]
        # A job that is being requeued may be missing for a moment: its absence alone is no proof.
        state = job_state(attempt.job)
        if state is None or state in ENDED:
            return None
        return QueuedJob(
            id=attempt.job, state=state, reason="None", nodes="", script=str(attempt.script)
        )
