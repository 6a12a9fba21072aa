"""Which attempts are in the queue, as of one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alps.launch.slurm.cluster import ENDED, QueuedJob, known_jobs, queued_jobs
from alps.launch.slurm.submission import Attempt, Attempts


@dataclass(kw_only=True)
class QueueView:
    """The queue at one moment.

    Attributes:
        attempts: All that was submitted.
        jobs: Jobs in the queue by id; None if the queue was not asked.
    """

    attempts: Attempts
    jobs: Mapping[str, QueuedJob] | None = None
    _known: dict[str, Mapping[str, QueuedJob]] = field(default_factory=dict)
    _by_script: dict[tuple[str, str], QueuedJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Finds jobs by their scripts: an id alone may be that of another cluster's job."""
        for job in (self.jobs or {}).values():
            self._by_script[job.script, job.id.partition("_")[2]] = job

    @classmethod
    def now(cls, attempts: Attempts) -> QueueView:
        """Asks the queue.

        Raises:
            QueueUnavailable: If it does not answer.
        """
        return cls(attempts=attempts, jobs=queued_jobs())

    def live(self, key: str) -> list[tuple[Attempt, QueuedJob]]:
        """Attempts of a key that are in the queue, oldest first, with their jobs.

        Raises:
            QueueUnavailable: If the controller does not answer.
        """
        found = ((attempt, self.job(attempt)) for attempt in self.attempts.get(key, ()))
        return [(attempt, job) for attempt, job in found if job is not None]

    def job(self, attempt: Attempt) -> QueuedJob | None:
        """The job of an attempt, if it is in the queue.

        Raises:
            QueueUnavailable: If the controller does not answer.
        """
        if self.jobs is None:
            return None
        if (found := self.listed(attempt)) is not None:
            return found
        # A job that is being requeued may be missing for a moment: its absence alone is no proof.
        remembered = self.remembered(attempt)
        return None if remembered is None or remembered.state in ENDED else remembered

    def listed(self, attempt: Attempt) -> QueuedJob | None:
        """The job of an attempt, if squeue lists it."""
        return self._by_script.get((str(attempt.script), str(attempt.index)))

    def remembered(self, attempt: Attempt) -> QueuedJob | None:
        """What the controller knows of a job that squeue does not list.

        Raises:
            QueueUnavailable: If the controller does not answer.
        """
        if attempt.job is None:
            return None
        array = attempt.job.partition("_")[0]
        if array not in self._known:
            self._known[array] = known_jobs(array)
        job = self._known[array].get(attempt.job)
        return job if job is not None and job.script == str(attempt.script) else None
