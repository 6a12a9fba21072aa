"""Benchmarks that wait for a machine still run."""

import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
START = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import gpu
"""
BROKEN = """
import torch
from gpu_parts.trainer import Training

def broken(report):
    raise RuntimeError("a kernel | is missing")

def limited(self, train=Training.__call__):
    if self.run.method.name == "full":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if self.run.method.name == "lora":
        raise RuntimeError("no adapters today")
    return train(self)

Training.__call__ = limited
gpu.PARTS["attention"] = broken
"""


@pytest.fixture
def gpu_benchmark(preloaded, tmp_path):
    """Runs `benchmarks/gpu.py` on tiny shapes: the finished process and its report."""

    def call(*arguments: str, patches: str = ""):
        code = START + patches + "gpu.main()\n"
        arguments = ("--tiny", "--out", "gpu.md", *arguments)
        done = preloaded.run("-c", code, *arguments, cwd=tmp_path, timeout=580)
        return done, (tmp_path / "gpu.md").read_text()

    return call


def rows_of(report: str) -> dict[str, list[list[str]]]:
    """Cells of all tables, by the first one of their line."""
    found: dict[str, list[list[str]]] = {}
    for line in re.findall(r"^\| (.*) \|$", report, re.M):
        first, *cells = line.split(" | ")
        found.setdefault(first, []).append(cells)
    return found


@pytest.mark.timeout(600)
def test_every_part_of_the_gpu_benchmark_runs_on_tiny_shapes(gpu_benchmark):
    done, report = gpu_benchmark()
    assert done.returncode == 0, report + done.stderr
    assert set(report.splitlines()) <= set(done.stdout.splitlines())
    assert "failed" not in report.lower() and "out of memory" not in report, report
    assert len(re.findall("^### ", report, re.M)) == 8, report
    rows = rows_of(report)
    ways = ("full", "rest_trains", "heads_only", "heads_only, top third", "LoRA")
    steps = [rows[way][0] for way in (*ways, "LoRA, PEFT and HF Trainer")]
    assert all(float(seconds) > 0 and float(speed) > 0 for seconds, _, _, speed, *_ in steps)
    assert len({round(float(loss), 2) for *_, loss in steps}) == 1  # the same weights and rows
    for name in (*ways, "ours, at once", "Liger's", "32", "bf16", "product, pad", "tiny"):
        assert name in rows, name
    assert {cells[0] for cells in rows["bf16"]} == {"ours", "lm-eval's HFLM", "vLLM"}


def test_a_measurement_that_fails_leaves_the_others_their_tables(gpu_benchmark):
    done, report = gpu_benchmark("--parts", "attention,train,loss", patches=BROKEN)
    assert done.returncode == 1, report + done.stderr
    rows = rows_of(report)
    assert rows["full"][0][:2] == ["out of memory", "—"]
    assert rows["LoRA"][0][0] == "failed: RuntimeError: no adapters today"
    assert rows["rest_trains"][0][1] == "—"  # nothing to compare it with
    assert float(rows["rest_trains"][0][0]) > 0 and "ours, at once" in rows
    failures = report[report.index("### Failed") :]
    assert "attention: RuntimeError: a kernel | is missing" in failures
    assert "LoRA: RuntimeError: no adapters today" in failures and "memory" not in failures


def test_unknown_parts_are_refused(preloaded, tmp_path):
    done = preloaded.run("-c", START + "gpu.main()", "--parts", "train,trian", cwd=tmp_path)
    assert done.returncode == 2 and "trian is none of train, memory" in done.stderr


def test_the_pair_to_localize_fits_the_disk(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from gpu_parts.localization import SPARE, layers_that_fit

    one = 6144 * 4096 * (2 + 4)  # q, k and v of a layer, in bfloat16 and float32
    assert layers_that_fit(SPARE + 3 * one, 32) == 3
    assert layers_that_fit(SPARE + 100 * one, 32) == 32
    assert layers_that_fit(SPARE - 1, 32) == 0


def test_the_table_of_what_fits_is_that_of_its_command(preloaded, tmp_path):
    done = preloaded.run(str(BENCHMARKS / "scale.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (BENCHMARKS.parent / "docs" / "scale.md").read_text()


IMPORT_ALL = f"""
import importlib, sys
from pathlib import Path

sys.path.insert(0, {str(BENCHMARKS)!r})
for path in sorted(Path({str(BENCHMARKS)!r}).glob("*.py")):
    importlib.import_module(path.stem)
    print(path.stem)
"""


def test_every_benchmark_finds_what_it_imports(preloaded, tmp_path):
    done = preloaded.run("-c", IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(list(BENCHMARKS.glob("*.py"))) > 10
