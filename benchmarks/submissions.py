"""Commands about jobs in an outputs folder of thousands of runs, on a cluster of scripts.

python benchmarks/submissions.py --seeds 1000 --sweep 200
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from alps.base.atomic import write_json, write_text
from alps.base.provenance import versions_of
from alps.base.serialization import to_dict
from alps.config.build import build, compose_config
from alps.launch.slurm.settings import Slurm
from alps.launch.slurm.submission import read_attempts
from alps.launch.slurm.submit import missing_entries, submit
from alps.runs.completion import weights_fingerprint
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.metrics import COLUMNS
from alps.runs.result_assembly import training_result, with_evaluations
from alps.settings.run import Run

METHODS = ("full", "alps", "kl", "random")
SUBMISSIONS = 4
STEPS = 200
NUM_STATES = 10
"""Of ten seeds, seven are finished, one failed, one runs, one waits."""

COMMANDS = {
    "sbatch": 'cd {state}; echo >>calls; wc -l <calls; cp "${{@: -1}}" last.sh',
    "squeue": "cat {state}/queue; echo squeue >>{state}/asked",
    "scontrol": "echo scontrol >>{state}/asked; echo 'MaxArraySize            = 1001'",
    "scancel": "true",
    "srun": "true",
}
MEASURED = (
    ("status",),
    ("status", "state=failed"),
    ("runs",),
    ("submit", "--dry-run", "method=random", "seed=range(5000,{end})"),
    ("submit", "method=random", "seed=range(5000,{end})"),
    ("submit", "--dry-run", "method=alps", "seed=range(6000,{end_of_alps})"),
    ("submit", "method=alps", "seed=range(6000,{end_of_alps})"),
)


def cluster(folder: Path) -> Path:
    """Puts a cluster of scripts on the path; returns the folder with its queue."""
    state, commands = folder / "state", folder / "bin"
    state.mkdir(parents=True)
    commands.mkdir()
    (state / "queue").touch()
    for name, text in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/bash\n{text.format(state=state)}\n")
        (commands / name).chmod(0o755)
    os.environ["PATH"] = f"{commands}:{os.environ['PATH']}"
    return state


def write_outputs(seeds: int, state: Path) -> None:
    """Submits runs of so many seeds, and writes what their jobs would have written."""
    settings = ["model=tiny", "evals=held_out"]
    base = [build(compose_config([f"method={name}", *settings])) for name in METHODS]
    for start in range(0, seeds, max(1, seeds // SUBMISSIONS)):
        end = min(seeds, start + max(1, seeds // SUBMISSIONS))
        runs = [replace(run, seed=seed) for seed in range(start, end) for run in base]
        submit(missing_entries(runs), Slurm(), "outputs")
    write_text(state / "queue", "".join(f"{line}\n" for line in _queue()))


def _queue() -> Iterator[str]:
    """Lines of squeue, once the folder of every run is written."""
    for attempts in read_attempts("outputs").values():
        (attempt,) = attempts
        run = attempt.entry.run
        state = run.seed % NUM_STATES
        if state < NUM_STATES - 1:
            _write_run(run, state)
        if state >= NUM_STATES - 2:
            waits = ("Dependency" if attempt.entry.needs else "Resources", "PENDING", "")
            reason, name, node = ("None", "RUNNING", "node1") if state == NUM_STATES - 2 else waits
            yield f"{attempt.job}|{name}|{node}|{reason}|{attempt.script}"


def _write_run(run: Run, state: int) -> None:
    folder = RunFolder(Path(run.folder))
    folder.write_run(run)
    rows = [f"{n},1.5,0.0001,{2048 * n},{0.7 * n:.3f}" for n in range(1, STEPS + 1)]
    write_text(folder.metrics_path, "\n".join([",".join(COLUMNS), *rows, ""]))
    write_json(folder.schedule_path, {"num_steps": 2 * STEPS})
    if state == NUM_STATES - 2:
        folder.set_status("running")
        return
    if state == NUM_STATES - 3:
        folder.set_status("failed", "the loss became nan at step 200")
        return
    measured = {"num_trainable": 1000, "trainable_fraction": 0.5, "training": f"{run.seed}"}
    write_json(folder.training_path, measured)
    (benchmark,) = run.evals.benchmarks
    evaluation = Evaluation(
        benchmark=json.loads(json.dumps(to_dict(benchmark))),
        weights=weights_fingerprint(run),
        documents=benchmark.fingerprint(run.evals.documents_dir),
        metrics={"loss": 1.5},
        num_documents=50,
        versions=VERSIONS,
    )
    evaluation.write(folder)
    result = training_result(run, folder)
    with_evaluations(result, {benchmark.name: evaluation}, folder).write(folder.result_path)
    folder.set_status("finished")


VERSIONS = versions_of(("alps", "torch"))


def main() -> None:
    """Prints the time of each command, and how often it calls SLURM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="four runs of each")
    parser.add_argument("--sweep", type=int, default=200, help="runs of the submitted sweeps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="an outputs folder to keep and use again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = (arguments.keep or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        os.chdir(place)
        if (place / "state").exists():
            os.environ["PATH"] = f"{place / 'bin'}:{os.environ['PATH']}"
        else:
            write_outputs(arguments.seeds, cluster(place))
        print("| command | seconds | of the CPU | sbatch | squeue, scontrol |")
        print("|---|---|---|---|---|")
        for command in MEASURED:
            print(_measured(command, arguments.sweep, arguments.rounds, place), flush=True)


def _measured(command: tuple[str, ...], sweep: int, rounds: int, place: Path) -> str:
    texts = [t.format(end=5000 + sweep, end_of_alps=6000 + sweep) for t in command]
    settings = ["model=tiny", "evals=held_out"] if texts[0] == "submit" else []
    calls, asked = place / "state" / "calls", place / "state" / "asked"
    jobs = place / "outputs" / "jobs"
    old = set(jobs.iterdir())
    taken, processor = [], []
    for _ in range(rounds):
        before = _count(calls)
        asked.unlink(missing_ok=True)
        start, busy = time.perf_counter(), _processor_seconds()
        subprocess.run(
            [sys.executable, "-m", "alps.cli", *texts, *settings],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        taken.append(time.perf_counter() - start)
        processor.append(_processor_seconds() - busy)
        for folder in set(jobs.iterdir()) - old:  # the next round submits the same
            shutil.rmtree(folder)
    submitted = _count(calls) - before
    seconds = " | ".join(f"{statistics.median(times):.1f}" for times in (taken, processor))
    return f"| `alps {' '.join(texts)}` | {seconds} | {submitted} | {_count(asked)} |"


def _processor_seconds() -> float:
    """Of all commands so far, with the scripts that they called."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _count(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


if __name__ == "__main__":
    main()
