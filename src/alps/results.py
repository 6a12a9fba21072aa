"""The files a run leaves: their schema, their places, and writing them whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import yaml
from filelock import FileLock, Timeout

from alps.heads import HeadSet
from alps.plain import from_plain, to_plain
from alps.settings import Run, Weights

SCHEMA_VERSION = 1
PACKAGES = ("alps", "torch", "transformers", "pytorch-lightning", "hydra-core", "peft", "datasets")


class RunFailed(RuntimeError):
    """A run that had started could not go on; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """`result.json`: what a run was and what came out.

    Attributes:
        key: Name of the run's folder.
        model: Name of the base model.
        data: Name of the training data.
        method: How heads were chosen and what was trained; `base` if nothing was.
        ratio: Share of heads asked for, or None where the method ignores it.
        scope: What trained besides heads, or None where the method ignores it.
        seed: Seed of the training.
        num_trainable: Trainable parameters.
        trainable_fraction: Those over all parameters of the base model.
        num_heads_selected: Chosen heads, or None for a method without heads.
        train_seconds: Wall time in optimizer steps, over all attempts.
        tokens_per_second: Input tokens (padding excluded) over `train_seconds`.
        peak_memory_bytes: Largest resident memory of the training process (on GPU: of the device);
            of rank 0 if there are several.
        final_train_loss: Mean loss per answer token of the last tenth of the steps.
        precision: What the trainer really used.
        deviations: Where that is not what was asked for, and why; sentences.
        evals: benchmark -> metric -> value.
        uncertainty: benchmark -> metric -> `stderr`, and `low` and `high` of the 95 % interval.
        versions: Package -> version.
        git_commit: Commit of the code, or None outside a checkout.
        git_dirty: Whether the code differed from that commit, or None.
        data_hash: Content of the training data.
        base_hash: Content of the base model.
        commits: Commits that model and data had on the hub, where they are from there.
        num_steps: Optimizer steps.
        num_examples: Training rows used.
        num_dropped: Rows of the training data that were left out, but for a fraction asked for.
        dropped: Those by reason.
        num_truncated: Training rows whose instruction was cut to fit.
        devices: Ranks that trained.
        flops_per_token_forward: Operations of a forward pass (`alps.cost`), multiply-adds as 2.
        flops_per_token_backward: Operations of a backward pass.
        flops_vs_full: Operations of a step over those of full fine-tuning on the same rows.
        predicted_memory_bytes: Peak memory of a device as `alps.cost` counts it.
        score_mass: Share of the sum of all scores that the chosen heads hold.
        finished_at: UTC time.
        schema_version: Of this file.
    """

    key: str
    model: str
    data: str
    method: str
    ratio: float | None = None
    scope: str | None = None
    seed: int | None = None
    num_trainable: int
    trainable_fraction: float
    num_heads_selected: int | None = None
    train_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    final_train_loss: float | None = None
    precision: str | None = None
    deviations: Sequence[str] = field(default_factory=list)
    evals: Mapping[str, Mapping[str, float]]
    uncertainty: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    data_hash: str
    base_hash: str
    commits: Mapping[str, str] | None = None
    num_steps: int | None = None
    num_examples: int | None = None
    num_dropped: int | None = None
    dropped: Mapping[str, int] | None = None
    num_truncated: int | None = None
    devices: int | None = None
    flops_per_token_forward: float | None = None
    flops_per_token_backward: float | None = None
    flops_vs_full: float | None = None
    predicted_memory_bytes: int | None = None
    score_mass: float | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    git_commit: str | None = field(default_factory=lambda: git_state()[0])
    git_dirty: bool | None = field(default_factory=lambda: git_state()[1])
    finished_at: str = field(default_factory=lambda: utc_now())
    schema_version: int = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Writes `result.json`, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Reads a `result.json`.

        Raises:
            RunFailed: If it is damaged or of another schema.
        """
        try:
            plain = json.loads(path.read_text())
        except ValueError as error:
            raise RunFailed(f"{path} is damaged ({error}); delete it to make it again") from None
        if plain.get("schema_version") != SCHEMA_VERSION:
            raise RunFailed(
                f"{path} has schema {plain.get('schema_version')}, this version reads "
                f"{SCHEMA_VERSION}; delete it to make it again"
            )
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{k: v for k, v in plain.items() if k in known})
        except TypeError as error:
            raise RunFailed(f"{path} is damaged ({error}); delete it to make it again") from None


@dataclass(frozen=True)
class RunFolder:
    """`outputs/runs/<key>`: the places of a run's files."""

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
        """The trained parameters, and nothing else."""
        return self.path / "weights" / "trained.safetensors"

    @property
    def qkv_path(self) -> Path:
        """q, k and v of the trained model under their plain names, where something wanted them."""
        return self.path / "weights" / "qkv.safetensors"

    @property
    def training_path(self) -> Path:
        """`training.json`: what the training measured; written after the weights."""
        return self.path / "training.json"

    @property
    def checkpoint_path(self) -> Path:
        """The last resume point."""
        return self.path / "checkpoint" / "last.ckpt"

    @property
    def commits_path(self) -> Path:
        """Commits of model and data on the hub, as they were when the run began."""
        return self.path / "commits.json"

    @property
    def result_path(self) -> Path:
        """`result.json`."""
        return self.path / "result.json"

    def evaluation_path(self, benchmark: str, protocol: str) -> Path:
        """Scores and samples of one benchmark under one protocol."""
        return self.path / "evals" / benchmark / f"{protocol}.json"

    def write_run(self, run: Run) -> None:
        """Writes `run.yaml`."""
        write_text(self.settings_path, yaml.safe_dump(to_plain(run), sort_keys=False))

    def read_run(self, name: str = "run.yaml") -> Run:
        """Reads `run.yaml`; a data file or package that is gone by now doesn't matter here."""
        return from_plain(yaml.safe_load((self.path / name).read_text()), check=False)

    def read_heads(self) -> HeadSet | None:
        """Reads `heads.json`, if the method chose heads."""
        return HeadSet.read(self.heads_path) if self.heads_path.exists() else None

    @property
    def kept(self) -> Weights:
        """How much of its weights is here; `drop` before the training, too."""
        if self.weights_path.exists():
            return "keep"
        return "qkv" if self.qkv_path.exists() else "drop"

    def trained(self, needs: Weights = "keep") -> bool:
        """Whether its training is done and so much of its weights is still here."""
        enough = get_args(Weights)[: get_args(Weights).index(needs) + 1]
        return self.training_path.exists() and self.kept in enough

    def lacks(self, needs: Weights = "keep") -> str | None:
        """Why the weights that something needs are not here, in a sentence; or None."""
        if not self.training_path.exists():
            return f"{self.path} has no trained weights yet: train it first"
        if self.trained(needs):
            return None
        left = {"qkv": "but for q, k and v", "drop": "", "keep": ""}[self.kept]
        return (
            f"the trained weights of {self.path} were deleted{left and ' '}{left} (weights="
            f"{self.kept}): delete {self.training_path} and repeat its command to train it again"
        )

    def set_status(self, state: str, reason: str | None = None) -> None:
        """Writes `status.json`: state is `running`, `stopped`, `failed` or `finished`."""
        place = {"host": socket.gethostname(), "pid": os.getpid(), "time": utc_now()}
        write_json(self.path / "status.json", {"state": state, "reason": reason, **place})

    def status(self) -> Mapping[str, Any]:
        """State and reason; a run that says `running` while nobody holds its lock is `stopped`."""
        try:
            status = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return {"state": "unknown", "reason": None}
        if status["state"] == "running" and not self.locked():
            return {**status, "state": "stopped", "reason": "ended without finishing"}
        return status

    def locked(self) -> bool:
        """Whether a process works on this run now."""
        try:
            with FileLock(self.path / ".lock", timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # somebody else's folder, which we may only read
            return False

    def remove_torn_files(self) -> None:
        """Deletes what a killed process left half written; only the holder of the lock may."""
        for torn in self.path.rglob("*.tmp"):
            torn.unlink(missing_ok=True)

    @contextmanager
    def lock(self, waiting: Any = None) -> Iterator[None]:
        """Holds the run; a second process waits here until the first is done.

        Args:
            waiting: Called once with no argument if another process holds the run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting:
                waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


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


def write_json(path: Path, plain: Any) -> None:
    """Writes JSON to a temporary name beside `path` and renames it."""
    write_text(path, json.dumps(plain, indent=2, allow_nan=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text to a temporary name beside `path` and renames it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, flushed to disk first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def utc_now() -> str:
    """ISO time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def versions() -> dict[str, str]:
    """Installed versions of the packages that shape a result."""
    return versions_of(PACKAGES)


@cache
def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of some packages."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this code runs from, or (None, None)."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # not a checkout of something else around us
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
