"""Time to judge all reference solutions of HumanEval+: EvalPlus' own command and our sandboxes.

    python benchmarks/judge.py DATA_DIR --rounds 3

DATA_DIR is `evals.data_dir`. Both judge the same samples with the same number of workers and cached
expected results. EvalPlus sleeps at its end until 20 seconds have passed, so it is timed with and
without that pause. Rounds are interleaved; the table shows medians.
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
    """Prints a row for each of the three variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=evalplus_scoring.num_workers())
    args = parser.parse_args()
    evalplus_scoring.num_workers = lambda: args.workers
    problem_set = load_release("humaneval", args.data_dir)
    programs = {p["task_id"]: p["prompt"] + p["canonical_solution"] for p in problem_set.problems}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        variants: dict[str, Callable[[], int]] = {
            "EvalPlus": lambda: stock(problem_set, programs, folder, "with", args.workers),
            "EvalPlus without its pause": lambda: stock(
                problem_set, programs, folder, "without", args.workers
            ),
            "ours": lambda: ours(problem_set, programs, folder),
        }
        rounds: dict[str, list[tuple[float, int]]] = {name: [] for name in variants}
        for number in range(args.rounds + 1):  # the first one fills both caches
            for name, variant in variants.items():
                began = time.perf_counter()
                passed = variant()
                seconds = time.perf_counter() - began
                print(f"round {number}: {name}: {seconds:.1f} s, {passed} passed", flush=True)
                if number:
                    rounds[name].append((seconds, passed))
    print(f"\nEvalPlus {version('evalplus')}, Python {sys.version.split()[0]}, {args}")
    print("\n| what | seconds | spread | passed | EvalPlus / this |\n|---|---|---|---|---|")
    medians = {name: statistics.median(s for s, _ in timed) for name, timed in rounds.items()}
    for name, timed in rounds.items():
        median = medians[name]
        spread = f"{min(timed)[0] / median:.2f}-{max(timed)[0] / median:.2f}"
        ratio = medians["EvalPlus"] / median
        print(f"| {name} | {median:.1f} | {spread} | {timed[0][1]} | {ratio:.2f} |")


def stock(
    problem_set: ProblemSet, programs: dict[str, str], folder: Path, pause: str, workers: int
) -> int:
    """EvalPlus' own command, unprotected: it runs its own reference solutions."""
    path = folder / "samples.jsonl"
    samples = [{"task_id": task, "solution": text} for task, text in programs.items()]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    problems = folder / problem_set.file_name
    problems.write_bytes(problem_set.content)
    own = {"HUMANEVAL_OVERRIDE_PATH": str(problems), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", STOCK, str(path), pause, str(workers)]
    subprocess.run(command, env={**os.environ, **own}, check=True, capture_output=True)
    results_path = folder / "samples_eval_results.json"
    results = json.loads(results_path.read_text())["eval"].values()
    results_path.unlink()
    return sum(r["base_status"] == r["plus_status"] == "pass" for [r] in results)


def ours(problem_set: ProblemSet, programs: dict[str, str], folder: Path) -> int:
    """Our judging service, in an empty folder."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        verdicts = evalplus_scoring.score(problem_set, programs, Path(temporary))
        return sum(verdicts.passed(plus=True).values())


if __name__ == "__main__":
    main()
