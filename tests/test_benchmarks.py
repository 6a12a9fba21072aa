"""Benchmarks that wait for a machine still run."""

from pathlib import Path

GPU = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def test_every_part_of_the_gpu_benchmark_runs_on_tiny_shapes(preloaded, tmp_path):
    parts = "train,gpu24,evaluate,kernels"
    done = preloaded.run(
        str(GPU), "--tiny", "--parts", parts, "--out", "gpu.md", cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "gpu.md").read_text()
    assert "failed" not in report and "out of memory" not in report, report
    for way in ("full", "rest_trains", "heads_only", "LoRA", "PEFT's LoRA", "float32", "chunks"):
        assert f"| {way}" in report or f"{way} of" in report, way


def test_the_table_of_what_fits_is_that_of_its_command(preloaded, tmp_path):
    done = preloaded.run(str(GPU.with_name("scale.py")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (GPU.parents[1] / "docs" / "scale.md").read_text()
