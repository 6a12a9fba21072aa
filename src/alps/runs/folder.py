"""The folder of a run: paths of its files, its status, and its lock."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from alps.base.atomic import write_json, write_text
from alps.base.hashing import file_hash
from alps.base.lock import Owner, hold, lock_owner
from alps.base.provenance import utc_now
from alps.base.serialization import from_dict, to_dict
from alps.heads.head_set import HeadSet
from alps.runs.result import RunFailed
from alps.settings.run import Run, Weights

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML has it: seven times as fast."""


@dataclass(frozen=True)
class RunFolder:
    """`outputs/runs/<key>`: a run's files, status and lock."""

    path: Path

    @property
    def settings_path(self) -> Path:
        """`run.yaml`."""
        return self.path / "run.yaml"

    @property
    def heads_path(self) -> Path:
        """`heads.json`, for methods with heads."""
        return self.path / "heads.json"

    @property
    def weights_path(self) -> Path:
        """Trained parameters; frozen ones are the base model's."""
        return self.path / "weights" / "trained.safetensors"

    @property
    def qkv_path(self) -> Path:
        """q, k and v of the trained model under the base model's names; written on demand."""
        return self.path / "weights" / "qkv.safetensors"

    @property
    def training_path(self) -> Path:
        """`training.json`: measurements of the training; written after the weights."""
        return self.path / "training.json"

    @property
    def checkpoint_path(self) -> Path:
        """The last training checkpoint."""
        return self.path / "checkpoint" / "last.ckpt"

    @property
    def metrics_path(self) -> Path:
        """`metrics.csv`: one line per optimizer step."""
        return self.path / "metrics.csv"

    @property
    def schedule_path(self) -> Path:
        """`schedule.json`: the number of optimizer steps; written when the training starts."""
        return self.path / "schedule.json"

    @property
    def commits_path(self) -> Path:
        """`commits.json`: commits of model and data on the hub when the run began."""
        return self.path / "commits.json"

    @property
    def result_path(self) -> Path:
        """`result.json`."""
        return self.path / "result.json"

    @property
    def _lock_path(self) -> Path:
        return self.path / ".lock"

    def evaluation_path(self, benchmark: str, protocol: str) -> Path:
        """Scores and samples of one benchmark under one protocol."""
        return self.path / "evals" / benchmark / f"{protocol}.json"

    def write_run(self, run: Run) -> None:
        """Writes `run.yaml`."""
        write_text(self.settings_path, yaml.safe_dump(to_dict(run), sort_keys=False))

    def read_run(self, name: str = "run.yaml") -> Run:
        """Reads `run.yaml`, even if its data file or a package no longer exists.

        `output_dir` becomes the folder around this one, in case outputs were moved or copied, or
        their relative path started from another working directory.
        """
        text = (self.path / name).read_text()
        run: Run = from_dict(yaml.load(text, Loader=YAML_LOADER), check=False)
        here = Path(os.path.abspath(self.path))
        written = Path(run.output_dir, *here.parts[-2:])
        if os.path.realpath(written) == os.path.realpath(here):
            return run
        return replace(run, output_dir=str(here.parents[1]))

    def outdated_reason(self, run: Run) -> str | None:
        """Why the run read here has another key now, as one sentence, or None."""
        if run.key == self.path.name:
            return None
        return (
            f"{self.path} was trained by another version of alps, or on data or a base model with "
            "other contents than they have now: repeat its command to train it again"
        )

    def check_base(self, run: Run) -> None:
        """Refuses a base model whose content differs from the one that was trained.

        Args:
            run: The run read here.

        Raises:
            ValueError: One sentence.
        """
        try:
            trained_on = json.loads(self.result_path.read_text())["base_hash"]
        except (OSError, ValueError, TypeError, KeyError):
            heads = self.read_heads()
            trained_on = heads.base_hash if heads else None
        if trained_on not in (None, now := run.model.fingerprint()):
            raise ValueError(
                f"the weights of {self.path} were trained on the base {trained_on}, and "
                f"{run.model.name} is {now} by now: bring the old base back"
            )

    def read_commits(self) -> Mapping[str, str]:
        """Reads `commits.json`; empty if model and data are not from the hub."""
        return json.loads(self.commits_path.read_text()) if self.commits_path.exists() else {}

    def read_heads(self) -> HeadSet | None:
        """Reads `heads.json`, if the method chose heads."""
        return HeadSet.read(self.heads_path) if self.heads_path.exists() else None

    @property
    def training_id(self) -> str:
        """Identifies the training behind the weights, for results measured on them.

        Training deleted weights again keeps the id: settings, examples and seed are the same.

        Raises:
            RunFailed: If `training.json` is damaged.
        """
        path = self.training_path
        try:
            return json.loads(path.read_text()).get("training") or file_hash(path)
        except (ValueError, AttributeError) as error:
            raise RunFailed(f"{path} is damaged ({error}); delete it to train again") from None

    @property
    def stored_weights(self) -> Weights:
        """Which weights are on disk; `drop` if none are, before the training too."""
        if self.weights_path.exists():
            return "keep"
        return "qkv" if self.qkv_path.exists() else "drop"

    def has_weights(self, needs: Weights = "keep") -> bool:
        """Whether the training is done and these weights are still on disk."""
        enough = get_args(Weights)[: get_args(Weights).index(needs) + 1]
        return self.training_path.exists() and self.stored_weights in enough

    def missing_weights_reason(self, needs: Weights = "keep") -> str | None:
        """Why these weights are not on disk, as one sentence, or None if they are."""
        if not self.training_path.exists():
            return f"{self.path} has no trained weights yet: train it first"
        if self.has_weights(needs):
            return None
        left = {"qkv": "but for q, k and v", "drop": "", "keep": ""}[self.stored_weights]
        return (
            f"the trained weights of {self.path} were deleted{left and ' '}{left} (weights="
            f"{self.stored_weights}): delete {self.training_path} and repeat its command to train "
            "it again"
        )

    def set_status(self, state: str, reason: str | None = None) -> None:
        """Writes `status.json`: state is `running`, `stopped`, `failed` or `finished`."""
        place: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
        place |= {"time": utc_now(), "job": slurm_job()}
        write_json(self.path / "status.json", {"state": state, "reason": reason, **place})

    @contextmanager
    def record_status(self) -> Iterator[None]:
        """Status of the work inside the block: `running`, then how it ended."""
        self.set_status("running")
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            self.set_status("failed", str(error) or type(error).__name__)
            raise
        except SystemExit:
            self.set_status("stopped", "stopped by a signal; the same command goes on from here")
            raise
        self.set_status("finished")

    def status(self) -> Mapping[str, Any]:
        """State and reason; without a process, `running` becomes `stopped` and `crashed`."""
        try:
            stored = json.loads((self.path / "status.json").read_text())
            status = {"reason": None, **stored, "state": stored["state"]}
            if not isinstance(status["state"], str) or not isinstance(status["reason"], str | None):
                raise TypeError(f"state and reason are {status}")
        except (OSError, ValueError, TypeError, KeyError):
            return {"state": "unknown", "reason": None}
        if status["state"] != "running":
            return status
        owner = self.lock_owner()
        if owner is not None and owner.alive:
            return status
        reason = "ended without finishing"
        if owner is not None and owner.host != socket.gethostname():
            reason = (
                f"node {owner.host} does not answer any more; the same command goes on from here"
            )
        return {**status, "state": "stopped", "reason": reason, "crashed": True}

    def is_locked(self) -> bool:
        """Whether a process is working on this run."""
        owner = self.lock_owner()
        return owner is not None and owner.alive

    def lock_owner(self) -> Owner | None:
        """The process that works on this run, or that died doing so and left its lock."""
        try:
            return lock_owner(self._lock_path)
        except OSError:  # another user's folder
            return None

    def remove_partial_files(self) -> None:
        """Deletes partial files and folders of killed processes; requires the lock."""
        for partial in list(self.path.rglob("*.tmp")):
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)

    @contextmanager
    def lock(self, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds the lock of the run; a second process waits for it, or takes over from a dead one.

        Args:
            on_wait: Called once if another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with hold(self._lock_path, on_wait):
            yield


def slurm_job() -> str | None:
    """Id of the surrounding SLURM job, with the element of its array: `7_0`; None outside."""
    array, index = (os.environ.get(f"SLURM_ARRAY_{n}_ID") for n in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def find_run(output_dir: Path, part: str) -> RunFolder:
    """The one run whose key contains `part`.

    Raises:
        ValueError: If none or several match.
    """
    found = [f for f in list_runs(output_dir) if part in f.path.name]
    exact = [f for f in found if f.path.name == part]
    if len(exact or found) == 1:
        return (exact or found)[0]
    where = output_dir / "runs"
    if not found:
        raise ValueError(f"no run in {where} has {part!r} in its key; `alps runs` lists them")
    keys = ", ".join(f.path.name for f in found[:5])
    raise ValueError(f"{len(found)} runs in {where} have {part!r} in their key: {keys}")


def list_runs(output_dir: Path) -> list[RunFolder]:
    """All run folders, by name."""
    return [RunFolder(p.parent) for p in sorted((output_dir / "runs").glob("*/run.yaml"))]
