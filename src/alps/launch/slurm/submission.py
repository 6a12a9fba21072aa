"""What was submitted: `outputs/jobs/<number>/submission.json`, one folder for each command.

The file is written before a job exists and again with each job's id, so that any shell knows what
every other has submitted. A job whose id was not written any more (a killed command) is found in
the queue by the path of its script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from alps.base.atomic import write_json
from alps.base.lock import hold
from alps.base.serialization import from_dict, to_dict
from alps.launch.slurm.settings import Slurm
from alps.runs.completion import base_is_finished, is_finished
from alps.runs.folder import RunFolder
from alps.settings.run import Run, Weights

FILE = "submission.json"

Kind = Literal["train", "evaluate"]
"""A run, or the evaluation of its base model."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one job does.

    Attributes:
        key: Of the run, or of the evaluation of a base model.
        kind: Which of the two.
        settings: The run, serialized.
        needs: Key of its task model, if that has to be trained first.
        weights: Weights that other runs need of it.
    """

    key: str
    kind: Kind
    settings: Mapping[str, Any]
    needs: str | None = None
    weights: Weights = "drop"

    @cached_property
    def run(self) -> Run:
        """The run, deserialized."""
        return from_dict(self.settings, Run, check=False)


@dataclass(frozen=True, kw_only=True)
class Array:
    """Entries that became one job array.

    Attributes:
        first: Number of its first entry.
        count: Number of its entries.
        after: Dependencies, as `afterok:7_0`.
        job: Job id, or None if it is not known.
    """

    first: int
    count: int
    after: Sequence[str] = ()
    job: str | None = None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The jobs of one command.

    Attributes:
        folder: Its folder, with scripts and output of the jobs.
        slurm: Resources of a job.
        entries: What the jobs do.
        arrays: Those submitted so far.
        weights: Retention policy.
        protected: Keys of runs whose weights stay whatever the policy.
        fail_fast: Whether the first failure cancels the other jobs.
    """

    folder: Path
    slurm: Slurm
    entries: Sequence[Entry]
    arrays: Sequence[Array] = ()
    weights: Weights = "keep"
    protected: Sequence[str] = ()
    fail_fast: bool = False

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Reads `submission.json`."""
        plain = json.loads((folder / FILE).read_text())
        return cls(
            folder=folder,
            slurm=from_dict(plain["slurm"], Slurm, check=False),
            entries=[Entry(**entry) for entry in plain["entries"]],
            arrays=[Array(**array) for array in plain["arrays"]],
            weights=plain["weights"],
            protected=plain["protected"],
            fail_fast=plain["fail_fast"],
        )

    def write(self) -> None:
        """Writes `submission.json`."""
        plain = {f: getattr(self, f) for f in ("weights", "fail_fast")}
        plain |= {"protected": list(self.protected), "slurm": to_dict(self.slurm)}
        plain |= {"entries": [asdict(entry) for entry in self.entries]}
        plain |= {"arrays": [asdict(array) for array in self.arrays]}
        write_json(self.folder / FILE, plain)

    def script(self, array: Array) -> Path:
        """Path of an array's script."""
        return self.folder / f"jobs-{array.first}.sh"

    def with_array(self, array: Array) -> Submission:
        """The submission with one more array, or with another state of it."""
        return replace(self, arrays=[*self.without_array(array).arrays, array])

    def without_array(self, array: Array) -> Submission:
        """The submission without an array, which the cluster refused."""
        return replace(self, arrays=[a for a in self.arrays if a.first != array.first])


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A job of an entry.

    Attributes:
        submission: Where it was submitted.
        entry: What it does.
        job: Job id, or None if the command was killed before it knew.
        script: Path of the job's script.
        index: Its element of the array.
        log: Path of its output.
        number: How many times the entry had been submitted by then.
    """

    submission: Submission
    entry: Entry
    job: str | None
    script: Path
    index: int
    log: Path
    number: int = 1

    @property
    def cancelled_path(self) -> Path:
        """An empty file that says that a user cancelled the job."""
        return self.log.with_suffix(".cancelled")


def jobs_folder(output_dir: Path | str) -> Path:
    """Where the submissions of an outputs folder are."""
    return Path(output_dir).absolute() / "jobs"


@contextmanager
def submit_lock(output_dir: Path | str) -> Iterator[None]:
    """Held while jobs are submitted: two shells do not submit the same run twice."""
    folder = jobs_folder(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / ".lock"):
        yield


def new_submission(
    output_dir: Path | str, slurm: Slurm, entries: Sequence[Entry], **settings: Any
) -> Submission:
    """A submission without jobs, in a folder of its own; nothing is written yet."""
    number = max((int(f.name) for f in _folders(output_dir)), default=0) + 1
    folder = jobs_folder(output_dir) / f"{number:04d}"
    return Submission(folder=folder, slurm=slurm, entries=entries, **settings)


def read_attempts(output_dir: Path | str) -> dict[str, Attempt]:
    """Key -> its last attempt, of all submissions of an outputs folder."""
    last: dict[str, Attempt] = {}
    for folder in sorted(_folders(output_dir), key=lambda f: int(f.name)):
        for attempt in _attempts_of(Submission.read(folder)):
            before = last.get(attempt.entry.key)
            number = before.number + 1 if before else 1
            last[attempt.entry.key] = replace(attempt, number=number)
    return last


def _folders(output_dir: Path | str) -> list[Path]:
    found = jobs_folder(output_dir).glob(f"*/{FILE}")
    return [path.parent for path in found if path.parent.name.isdecimal()]


def is_done(entry: Entry) -> bool:
    """Whether everything that an entry asks for is there.

    Raises:
        RunFailed: If a file is damaged.
    """
    run = entry.run
    if entry.kind == "evaluate":
        return base_is_finished(run)
    return is_finished(run, RunFolder(run.folder))


def _attempts_of(submission: Submission) -> Iterator[Attempt]:
    """The jobs of a submission, one for each entry."""
    for array in submission.arrays:
        script = submission.script(array)
        for index in range(array.count):
            yield Attempt(
                submission=submission,
                entry=submission.entries[array.first + index],
                job=f"{array.job}_{index}" if array.job else None,
                script=script,
                index=index,
                log=script.with_name(f"{script.stem}_{index}.log"),
            )
