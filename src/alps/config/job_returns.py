"""What our launchers return to Hydra for the points of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydra.core.utils import JobReturn, JobStatus

from alps.settings.run import Run


def job_returns(
    job_overrides: Sequence[Sequence[str]], runs: Sequence[Run], failures: Mapping[str, str]
) -> list[JobReturn]:
    """One return per point; Hydra raises the first failure, which has been printed.

    Args:
        job_overrides: Overrides of each point.
        runs: Run of each point.
        failures: Key of a failed run -> reason.
    """
    pairs = zip(job_overrides, runs, strict=True)
    return [_job_return(overrides, failures.get(run.key)) for overrides, run in pairs]


def _job_return(overrides: Sequence[str], failure: str | None) -> JobReturn:
    from alps.runs.result import RunFailed

    if failure is None:
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    error = RunFailed(failure)
    error._printed = True  # pyright: ignore[reportAttributeAccessIssue]
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
