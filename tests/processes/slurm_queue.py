"""A SLURM cluster as tests use it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("model=tiny", "evals=none", "data.max_examples=24", "trainer.progress=off")
LONG = ("method=full", "optim.epochs=20", "optim.precision=32", "trainer.accelerator=cpu",
        "trainer.checkpoint_every_n_steps=5")  # fmt: skip
"""A training of 60 steps."""
JOB = ("hydra.launcher.cpus=1", "hydra.launcher.poll_seconds=1")


def command(*words: str, check: bool = True) -> str:
    """Output of a command of SLURM."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


@dataclass
class Queue:
    """The cluster as a test uses it, from a folder of its own."""

    folder: Path
    cli: Callable[..., subprocess.CompletedProcess[str]]
    nodes: list[str] = field(
        default_factory=lambda: command("sinfo", "--noheader", "--Node", "--format=%N").split()
    )
    jobs: list[str] = field(default_factory=list)
    processes: list[Any] = field(default_factory=list)

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    def alps(self, *arguments: str, check: int = 0) -> str:
        """Output and errors of a command, which must end with this exit code."""
        done = self.cli(*arguments, check=check)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def submit(self, *settings: str, node: str = "one", check: int = 0) -> str:
        """Submits runs to a node; to any if the name is empty."""
        where = [f"+hydra.launcher.additional.nodelist={node}"] if node in self.nodes else []
        return self.alps("submit", *SMALL, *JOB, *where, *settings, check=check)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """A command in the background, as in another shell."""
        process = subprocess.Popen(
            [sys.executable, "-m", "alps.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def sbatch(self, *options: str) -> str:
        """Submits a job that is not ours; returns its id."""
        self.jobs.append(command("sbatch", "--parsable", "--output=/dev/null", *options))
        return self.jobs[-1]

    def status(self, *filters: str) -> str:
        """Last line of `alps status`: how many runs are in which state."""
        return self.alps("status", *filters).strip().splitlines()[-1]

    def states(self) -> dict[str, Any]:
        """Key -> state of each run that was submitted."""
        from alps.cli.jobs.status import chosen_states, queue_view

        return {
            state.entry.key: state
            for state in chosen_states(queue_view(str(self.outputs)), None, ())
        }

    def only(self) -> Any:
        """State of the only run."""
        (state,) = self.states().values()
        return state

    def until(self, condition: Callable[[], Any], seconds: float = 150) -> Any:
        """What the condition returns once it holds."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.report()
            time.sleep(0.1)
        return found

    def until_trained(self, steps: int, pattern: str = "*") -> Path:
        """The folder of a run that has done as many steps."""
        folders = lambda: (self.outputs / "runs").glob(pattern)  # noqa: E731
        found = lambda: [f for f in folders() if len(rows(f)) >= steps]  # noqa: E731
        return self.until(found)[0]

    def until_ended(self, *summaries: str) -> str:
        """Status when no run is in the queue or running any more."""
        going = lambda: [s for s in self.states().values() if s.queued or s.state == "running"]  # noqa: E731
        self.until(lambda: not going())
        found = self.status()
        assert not summaries or found in summaries, self.report()
        return found

    def queued(self) -> list[str]:
        """Jobs of this folder in the queue."""
        lines = command("squeue", "--noheader", "--array", "--format=%i|%o").splitlines()
        own = [line.split("|", 1) for line in lines]
        return [job for job, script in own if script.startswith(f"{self.folder}/")]

    def until_pending(self, job: str) -> None:
        """Waits until a job is back in the queue; the old attempt has ended then."""
        self.until(lambda: job_field(job, "JobState") == "PENDING")

    def report(self) -> str:
        """What happened, for a failed test."""
        logs = "\n".join(
            f"== {p}\n{p.read_text()[-3000:]}" for p in sorted(self.outputs.glob("jobs/*/*.log"))
        )
        queue = command("squeue", "--array", check=False)
        nodes = command("sinfo", "--Node", check=False)
        return f"{self.alps('status')}\n{queue}\n{nodes}\n{logs}"

    def clean_up(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        if left := [*self.queued(), *self.jobs]:
            subprocess.run(["scancel", "--quiet", *left], check=False, capture_output=True)
            end = time.monotonic() + 30
            while self.queued() and time.monotonic() < end:
                time.sleep(0.2)


@dataclass
class OneHost:
    """The cluster of slurm/one_host.sh."""

    folder: Path

    def kill(self, name: str) -> None:
        """Kills a node with all of its jobs, or slurmctld."""
        self._call("kill", name)

    def repair(self) -> None:
        """Everything runs, as before the test."""
        self._call("start", "slurmctld", "one", "two")

    def _call(self, *arguments: str) -> None:
        script = str(REPOSITORY / "slurm" / "one_host.sh")
        variables = {**os.environ, "ALPS_SLURM_DIR": str(self.folder)}
        done = subprocess.run(
            ["bash", script, *arguments], env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def assert_same(run: Path, references: Path) -> None:
    """The same weights, bit by bit, as in the other folder of runs; every step once, same loss."""
    reference = references / run.name
    steps, expected = (
        [[row[c] for c in ("step", "loss", "lr", "tokens")] for row in rows(each)]
        for each in (run, reference)
    )
    assert steps == expected
    assert [int(step) for step, *_ in steps] == list(range(1, len(steps) + 1))
    weights = "weights/trained.safetensors"
    assert (run / weights).read_bytes() == (reference / weights).read_bytes()


def num_kept(before: list[dict[str, str]], run: Path) -> int:
    """Steps that were not repeated: their lines are the same, measured seconds too."""
    same = [a == b for a, b in zip(before, rows(run), strict=False)]
    return [*same, False].index(False)


def processes(name: str, *words: str, cwd: Path | None = None) -> list[int]:
    """Processes of this program, in this folder, whose command lines contain all of these words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            comm = (place / "comm").read_text().strip()
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            elsewhere = cwd is not None and (place / "cwd").readlink() != cwd
        except OSError:
            continue
        if comm == name and not elsewhere and all(word in line for word in words):
            found.append(int(place.name))
    return sorted(found)


def rows(run: Path) -> list[dict[str, str]]:
    """Complete lines of `metrics.csv`."""
    from alps.runs.metrics import read_metrics

    return read_metrics(run / "metrics.csv")


def job_field(job: str, name: str) -> str:
    """A field of `scontrol show job`."""
    shown = command("scontrol", "show", "job", "--oneliner", job)
    return shown.split(f" {name}=")[1].split()[0]
