"""Judging all reference solutions of HumanEval+: EvalPlus as it is against ours in sandboxes.

    python benchmarks/judge.py FOLDER_OF_DATA --rounds 3

FOLDER_OF_DATA is `evals.data_dir`. Both judge the same samples with as many workers, and both have
computed before what the reference solutions return. EvalPlus sleeps at its end until 20 seconds are
over; it is timed with that and without. Rounds are interleaved; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.problems import ProblemSet, load_release

STOCK = """
import sys, time
pause = time.sleep
if sys.argv[2] == "without":
    time.sleep = lambda seconds: pause(min(seconds, 0.1))
from evalplus.evaluate import evaluate
evaluate("humaneval", sys.argv[1], parallel=int(sys.argv[3]))
"""


def main() -> None:
    """Prints a row for each of the three ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=evalplus_scoring.num_workers())
    chosen = parser.parse_args()
    evalplus_scoring.num_workers = lambda: chosen.workers
    problems = load_release("humaneval", chosen.data_dir)
    programs = {r["task_id"]: r["prompt"] + r["canonical_solution"] for r in problems.problems}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ways: dict[str, Callable[[], int]] = {
            "EvalPlus": lambda: stock(problems, programs, folder, "with", chosen.workers),
            "EvalPlus without its pause": lambda: stock(
                problems, programs, folder, "without", chosen.workers
            ),
            "ours": lambda: ours(problems, programs, folder),
        }
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
        for number in range(chosen.rounds + 1):  # the first one fills both caches
            for name, way in ways.items():
                seconds, passed = timed(way)
                print(f"round {number}: {name}: {seconds:.1f} s, {passed} passed", flush=True)
                if number:
                    found[name].append((seconds, passed))
    print(f"\nEvalPlus {version('evalplus')}, Python {sys.version.split()[0]}, {chosen}")
    print("\n| what | seconds | spread | passed | EvalPlus / this |\n|---|---|---|---|---|")
    medians = {name: statistics.median(s for s, _ in rounds) for name, rounds in found.items()}
    for name, rounds in found.items():
        middle = medians[name]
        spread = f"{min(rounds)[0] / middle:.2f}-{max(rounds)[0] / middle:.2f}"
        ratio = medians["EvalPlus"] / middle
        print(f"| {name} | {middle:.1f} | {spread} | {rounds[0][1]} | {ratio:.2f} |")


def timed(way: Callable[[], int]) -> tuple[float, int]:
    """Wall seconds, and how many problems passed."""
    began = time.perf_counter()
    passed = way()
    return time.perf_counter() - began, passed


def stock(
    problems: ProblemSet, programs: dict[str, str], folder: Path, pause: str, workers: int
) -> int:
    """EvalPlus' own command, without any protection: these programs are its own."""
    samples = folder / "samples.jsonl"
    rows = [{"task_id": task, "solution": text} for task, text in programs.items()]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / problems.file_name
    file.write_bytes(problems.content)
    own = {"HUMANEVAL_OVERRIDE_PATH": str(file), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", STOCK, str(samples), pause, str(workers)]
    subprocess.run(command, env={**os.environ, **own}, check=True, capture_output=True)
    results = folder / "samples_eval_results.json"
    found = json.loads(results.read_text())["eval"].values()
    results.unlink()
    return sum(e["base_status"] == e["plus_status"] == "pass" for [e] in found)


def ours(problems: ProblemSet, programs: dict[str, str], folder: Path) -> int:
    """The service, in a folder that knows nothing of the rounds before."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return sum(evalplus_scoring.score(problems, programs, Path(place)).passed(True).values())


if __name__ == "__main__":
    main()
