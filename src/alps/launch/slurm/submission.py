"""What was submitted: `outputs/jobs/<number>/submission.json`, one folder for each command.

Beside it, `arrays.json` is written before a job exists and again with its id, so that any shell
knows what every other has submitted. A job whose id was not written any more (a killed command) is
found in the queue by the path of its script.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from alps.base.atomic import write_json, write_text
from alps.base.lock import hold
from alps.base.serialization import from_dict, to_dict
from alps.launch.slurm.settings import Slurm
from alps.pipeline.retention import with_task_models
from alps.runs.completion import base_is_finished, is_finished
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)

FILE, ARRAYS = "submission.json", "arrays.json"
SCHEMA = 1
"""Version of the files."""

SETTINGS = ("id", "cwd", "weights", "protected", "fail_fast")
"""Fields of a submission that are JSON as they are."""

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
        id: Tells it from another submission in a folder of the same name.
        cwd: Where the command ran; relative paths of its runs start there.
        slurm: Resources of a job.
        entries: What the jobs do.
        arrays: Those submitted so far.
        weights: Retention policy.
        protected: Keys of runs whose weights stay whatever the policy.
        fail_fast: Whether the first failure cancels the other jobs.
    """

    folder: Path
    id: str
    cwd: str
    slurm: Slurm
    entries: Sequence[Entry]
    arrays: Sequence[Array] = ()
    weights: Weights = "keep"
    protected: Sequence[str] = ()
    fail_fast: bool = False

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Reads `submission.json` and `arrays.json`.

        Raises:
            ValueError: If they are damaged, or another version's; one sentence.
        """
        path = folder / FILE
        try:
            plain = json.loads(path.read_text())
            if plain["schema"] != SCHEMA:
                raise ValueError(f"schema {plain['schema']}, this version reads {SCHEMA}")
            arrays = folder / ARRAYS
            known = json.loads(arrays.read_text()) if arrays.exists() else []
            return cls(
                folder=folder,
                slurm=from_dict(plain["slurm"], Slurm, check=False),
                entries=[Entry(**entry) for entry in plain["entries"]],
                arrays=[Array(**array) for array in known],
                **{name: plain[name] for name in SETTINGS},
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}); its jobs are unknown: cancel them with scancel "
                "and delete its folder"
            ) from None

    def write(self) -> None:
        """Writes `submission.json`, which never changes."""
        plain = {"schema": SCHEMA, **{name: getattr(self, name) for name in SETTINGS}}
        entries = [{n: v for n, v in vars(e).items() if n != "run"} for e in self.entries]
        plain |= {"slurm": to_dict(self.slurm), "entries": entries}
        write_text(self.folder / FILE, json.dumps(plain) + "\n")

    def write_arrays(self) -> None:
        """Writes `arrays.json`: before an array is submitted, and again with its job's id."""
        write_json(self.folder / ARRAYS, [vars(array) for array in self.arrays])

    def script(self, array: Array) -> Path:
        """Path of an array's script."""
        return self.folder / f"jobs-{array.first}.sh"

    @property
    def failed_path(self) -> Path:
        """Holds the key of the run whose failure ended the command (`fail_fast`)."""
        return self.folder / "failed"

    def with_array(self, array: Array) -> Submission:
        """The submission with one more array, or with another state of it."""
        return replace(self, arrays=[*self.without_array(array).arrays, array])

    def without_array(self, array: Array) -> Submission:
        """The submission without an array, which the cluster refused."""
        return replace(self, arrays=[a for a in self.arrays if a.first != array.first])

    def attempts(self) -> list[Attempt]:
        """The jobs of the arrays, one for each entry."""
        return [
            Attempt(
                submission=self,
                entry=self.entries[array.first + index],
                job=f"{array.job}_{index}" if array.job else None,
                script=self.script(array),
                index=index,
            )
            for array in self.arrays
            for index in range(array.count)
        ]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A job of an entry.

    Attributes:
        submission: Where it was submitted.
        entry: What it does.
        job: Job id, or None if the command was killed before it knew.
        script: Path of the job's script.
        index: Its element of the array.
    """

    submission: Submission
    entry: Entry
    job: str | None
    script: Path
    index: int

    @property
    def log(self) -> Path:
        """Output of the job."""
        return self.script.with_name(f"{self.script.stem}_{self.index}.log")

    @property
    def cancelled_path(self) -> Path:
        """Says why the job was cancelled."""
        return self.log.with_suffix(".cancelled")

    @property
    def failed_path(self) -> Path:
        """Says why the job failed."""
        return self.log.with_suffix(".failed")

    @property
    def timeouts_path(self) -> Path:
        """Counts how often the job's time was up."""
        return self.log.with_suffix(".timeouts")


Attempts = Mapping[str, Sequence[Attempt]]
"""Key -> its jobs, oldest first."""


def jobs_folder(output_dir: Path | str) -> Path:
    """Where the submissions of an outputs folder are."""
    return Path(output_dir).absolute() / "jobs"


@contextmanager
def submit_lock(output_dir: Path | str) -> Iterator[None]:
    """Held while jobs are submitted or cancelled, so that two shells don't do it at once."""
    folder = jobs_folder(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    waits = "another command is submitting or cancelling jobs of %s; waiting"
    with hold(folder / ".lock", on_wait=lambda: log.warning(waits, output_dir)):
        yield


def new_submission(
    output_dir: Path | str, slurm: Slurm, entries: Sequence[Entry], **settings: Any
) -> Submission:
    """A submission without jobs, in a folder of its own; nothing is written yet."""
    number = max((int(f.name) for f in _folders(output_dir)), default=0) + 1
    return Submission(
        folder=jobs_folder(output_dir) / f"{number:04d}",
        id=secrets.token_hex(8),
        cwd=os.getcwd(),
        slurm=slurm,
        entries=entries,
        **settings,
    )


def read_attempts(output_dir: Path | str) -> Attempts:
    """All that was submitted from an outputs folder.

    Raises:
        ValueError: If a submission cannot be read; one sentence.
    """
    found: dict[str, list[Attempt]] = {}
    for folder in sorted(_folders(output_dir), key=lambda f: int(f.name)):
        for attempt in Submission.read(folder).attempts():
            found.setdefault(attempt.entry.key, []).append(attempt)
    return found


def _folders(output_dir: Path | str) -> list[Path]:
    place = jobs_folder(output_dir)
    names = os.listdir(place) if place.is_dir() else []
    return [place / name for name in names if name.isdecimal() and (place / name / FILE).exists()]


def is_done(entry: Entry) -> bool:
    """Whether everything that an entry asks for is there.

    Raises:
        RunFailed: If a file is damaged.
        OSError: If a file that the run names is not there.
        ValueError: If its settings are another version's.
    """
    run = entry.run
    if entry.kind == "evaluate":
        return base_is_finished(run)
    return is_finished(run, RunFolder(run.folder))


def needed_by_jobs(output_dir: Path | str) -> set[str]:
    """Keys of runs whose weights some unfinished entry of a submission needs."""
    needed: set[str] = set()
    for attempts in read_attempts(output_dir).values():
        for entry in {id(a.entry): a.entry for a in attempts}.values():
            try:
                if not is_done(entry):
                    needed |= {run.key for run in with_task_models(entry.run)}
            except (RunFailed, OSError, ValueError):
                needed.add(entry.key)  # nobody knows
    return needed
