"""Time and memory of encoding 200,000 examples, compared with the bare tokenizer.

Writes synthetic instruction rows (sentences of the embedded data sets, shuffled and numbered) to a
JSON Lines file and takes interleaved rounds of: the tokenizer's own `encode_batch` over the same
prompts and answers, all cores, texts ready in memory and results thrown away; and
`encoded_dataset`, which reads the file, renders, encodes, writes and checks. Each in a process of
its own. The last table is peak memory of the encoding process (resident) and of its workers
(private), for a tenth of the rows and for all. Figures that matter are the ratios of one run.

    python benchmarks/encode.py
    python benchmarks/encode.py --rows 20000 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from typing import Any

from alps.config.build import build, compose_config
from alps.data.encoding.dataset import encoded_dataset
from alps.data.encoding.mapped import num_processes
from alps.data.sources.jsonl import Jsonl
from alps.data.subset import training_examples
from alps.data.template import render
from alps.models.checkpoint import materialize

WAYS = {
    "bare": "bare `encode_batch`",
    "ours": "`encoded_dataset`",
    "pass": "the pass that counts rows (preflight), before it",
}


def write_rows(path: Path, count: int) -> None:
    """Instructions and answers of 20 to 200 words, no two alike."""
    from alps.data.generators import mini_code, mini_general, mini_math

    draw = Random("rows")
    sources = (mini_code, mini_general, mini_math)
    rows = list(chain.from_iterable(module.examples("train") for module in sources))
    with path.open("w") as file:
        for number in range(count):
            some = draw.sample(rows, draw.randint(1, 4))
            asked = "\n".join(row.instruction for row in some)
            answer = "\n".join(row.answer for row in some)
            row = {"instruction": f"{number}. {asked}", "output": f"{answer}\n{number}"}
            file.write(json.dumps(row) + "\n")


def source_of(path: Path) -> Jsonl:
    """The file as training data."""
    return Jsonl(name="synthetic", path=str(path), test_fraction=0.0)


class Clock:
    """Wall and processor seconds since it was made; the latter with processes that ended."""

    def __init__(self):
        """Starts it."""
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])

    def seconds(self, way: str) -> dict[str, float]:
        """Both, under the name of a way."""
        cpu = sum(os.times()[:4]) - self._cpu
        return {way: time.perf_counter() - self._wall, f"{way} cpu": cpu}


def bare(path: Path, tokenizer: Any) -> dict[str, float]:
    """Seconds of the tokenizer's own batches, 1000 rows at a time, over texts in memory."""
    examples = list(training_examples(source_of(path)))
    prompts = render("alpaca", [e.instruction for e in examples], tokenizer)
    texts = [(p.text, e.answer) for p, e in zip(prompts, examples, strict=True)]
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    began = Clock()
    for start in range(0, len(texts), 1000):
        some = texts[start : start + 1000]
        backend.encode_batch([asked for asked, _ in some])
        backend.encode_batch([answer for _, answer in some], add_special_tokens=False)
    return began.seconds("bare")


def measure(path: Path, way: str) -> dict[str, float]:
    """Seconds of one way in this process, and peak memory in MB."""
    from alps.models.load import load_tokenizer

    tokenizer = load_tokenizer(materialize(build(compose_config(["evals=none"])).model))
    found: dict[str, float] = {}
    if way == "bare":
        return bare(path, tokenizer)
    before, watch = resident(), WorkerMemory()
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        os.environ["ALPS_CACHE_DIR"] = cache
        began = Clock()
        training_examples(source_of(path))
        found |= began.seconds("pass")
        began = Clock()
        rows = encoded_dataset(source_of(path), tokenizer)
        found |= began.seconds("ours")
        found["tokens"] = int(rows.lengths.sum())
    return found | {"before": before, "peak": resident(), "workers": watch.megabytes()}


class WorkerMemory(threading.Thread):
    """Peak private memory of child processes, which are forks and share the rest."""

    def __init__(self):
        """Starts to look."""
        super().__init__(daemon=True)
        self._peaks: dict[str, int] = {}
        self.start()

    def run(self) -> None:
        """Looks five times a second."""
        while True:
            for children in Path("/proc/self/task").glob("*/children"):
                with suppress(OSError):  # a thread that ended just now
                    for child in children.read_text().split():
                        self._look(child)
            time.sleep(0.2)

    def _look(self, child: str) -> None:
        with suppress(OSError, IndexError):  # it ended just now
            memory = Path(f"/proc/{child}/smaps_rollup").read_text()
            now = int(memory.split("Private_Dirty:")[1].split()[0])
            self._peaks[child] = max(now, self._peaks.get(child, 0))

    def megabytes(self) -> float:
        """The sum of their peaks."""
        return sum(self._peaks.values()) / 1024


def resident() -> float:
    """Peak resident MB so far."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


def in_process(path: Path, way: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--only", way, str(path)]
    printed = subprocess.check_output(command, text=True)
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs=2, metavar=("WAY", "FILE"), help="in this process")
    arguments = parser.parse_args()
    if arguments.only:
        way, path = arguments.only
        print(json.dumps(measure(Path(path), way)))
        return
    with tempfile.TemporaryDirectory() as folder:
        few, all_rows = Path(folder) / "few.jsonl", Path(folder) / "all.jsonl"
        write_rows(few, arguments.rows // 10)
        write_rows(all_rows, arguments.rows)
        rounds = [
            in_process(all_rows, "bare") | in_process(all_rows, "ours")
            for _ in range(arguments.rounds)
        ]
        small = in_process(few, "ours")
    print_tables(arguments.rows, rounds, small)


def print_tables(rows: int, rounds: list[dict[str, float]], small: dict[str, float]) -> None:
    """Medians, spreads, and the ratio of each round."""
    tokens = rounds[0]["tokens"]
    print(
        f"SmolLM2's tokenizer, {rows} rows, {tokens / rows:.0f} tokens a row, "
        f"{num_processes()} worker processes, {platform.machine()}, "
        f"tokenizers {version('tokenizers')}; {len(rounds)} rounds\n"
    )
    heads = ("what", "seconds", "spread", "processor seconds", "rows/s", "bare / this", "processor")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for way, title in WAYS.items():
        taken = [r[way] for r in rounds]
        middle = statistics.median(taken)
        cpu = statistics.median(r[f"{way} cpu"] for r in rounds)
        print(
            f"| {title} | {middle:.1f} | {min(taken) / middle:.2f}-{max(taken) / middle:.2f} "
            f"| {cpu:.1f} | {rows / middle:.0f} | {share(rounds, way):.2f} "
            f"| {share(rounds, way, ' cpu'):.2f} |"
        )
    print("\n| rows | MB before | peak MB | workers, MB together |\n|---|---|---|---|")
    for count, found in ((rows // 10, small), (rows, rounds[0])):
        print(f"| {count} | {found['before']:.0f} | {found['peak']:.0f} | {found['workers']:.0f} |")


def share(rounds: list[dict[str, float]], way: str, unit: str = "") -> float:
    """Median over the rounds of the bare tokenizer's seconds over this way's."""
    return statistics.median(r[f"bare{unit}"] / r[f"{way}{unit}"] for r in rounds)


if __name__ == "__main__":
    main()
