"""Which attempts are in the queue, as of one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alps.launch.slurm.cluster import Job, known_jobs
from alps.launch.slurm.submission import Attempt, Attempts


@dataclass(kw_only=True)
class QueueView:
    """The queue at one moment.

    Attributes:
        attempts: All that was submitted.
        jobs: Jobs that the controller knows by id; None if it does not answer.
    """

    attempts: Attempts
    jobs: Mapping[str, Job] | None = None
    _by_script: dict[tuple[str, str], Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Finds jobs by their scripts: an id alone may be that of another cluster's job."""
        jobs = (self.jobs or {}).values()
        for job in sorted(jobs, key=lambda j: (j.queued, int(j.id.partition("_")[0]))):
            self._by_script[job.script, job.id.partition("_")[2]] = job

    @classmethod
    def now(cls, attempts: Attempts) -> QueueView:
        """Asks the queue.

        Raises:
            QueueUnavailable: If it does not answer.
        """
        return cls(attempts=attempts, jobs=known_jobs())

    def live(self, key: str) -> list[tuple[Attempt, Job]]:
        """Attempts of a key that are in the queue, oldest first, with their jobs."""
        found = ((attempt, self.known(attempt)) for attempt in self.attempts.get(key, ()))
        return [(attempt, job) for attempt, job in found if job is not None and job.queued]

    def known(self, attempt: Attempt) -> Job | None:
        """The job of an attempt, in the queue or ended, if the controller knows it."""
        job = self._by_script.get((str(attempt.script), str(attempt.index)))
        ours = job is not None and (job.queued or attempt.job in (None, job.id))
        return job if ours else None
