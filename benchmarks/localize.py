"""How fast and how small is scoring every head of a Llama-3.1-8B-shaped pair?

Builds random q, k and v in the shapes of Llama-3.1-8B (hidden 4096, 32 heads in 8 KV groups of
head_dim 128), base in bfloat16 and task in float32 or bfloat16, and takes interleaved rounds of:
reading the bytes once, scoring by this package, and a plain scipy loop over correctly sliced
heads (a few heads, extrapolated to all). Figures that matter are the ratios of one run. Peak memory
is that of a process of its own for each variant.

    python benchmarks/localize.py                    # 4 layers
    python benchmarks/localize.py --layers 32
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.stats import wasserstein_distance
from threadpoolctl import threadpool_info, threadpool_limits

from alps.heads.geometry import Geometry
from alps.localization.engine import localize_metrics, retain_freed_memory
from alps.localization.head_pairs import head_pairs
from alps.models.architecture import qkv_names
from alps.models.qkv import QKVCheckpoint
from alps.training.memory import peak_bytes

WIDTH = 4096
ALL = ("pad", "kl", "euclidean", "cosine")
VARIANTS = {
    "product, pad": ("product", ("pad",)),
    "concat, pad": ("concat", ("pad",)),
    "product, all four": ("product", ALL),
    "concat, all four": ("concat", ALL),
}
SAMPLED_HEADS = 2
PRODUCTS = "float64 products of eq. 5 alone"


def shape(layers: int) -> Geometry:
    """Attention of Llama-3.1-8B."""
    return Geometry(num_layers=layers, num_heads=32, num_kv_heads=8, head_dim=128)


def build_pair(folder: Path, layers: int, task_dtype: torch.dtype) -> tuple[Path, Path]:
    """Writes base and task as sharded checkpoints of q, k and v, one shard for each layer."""
    geometry = shape(layers)
    generator = torch.Generator().manual_seed(0)
    for name in ("base", "task"):
        (folder / name).mkdir(parents=True)
    index: dict[str, str] = {}
    blocks = (geometry.num_heads, geometry.num_kv_heads, geometry.num_kv_heads)
    for layer in range(layers):
        shard, names = f"layer-{layer:05d}.safetensors", qkv_names(layer)
        base = {
            n: (torch.randn(b * 128, WIDTH, generator=generator) * 0.02).bfloat16()
            for n, b in zip(names, blocks, strict=True)
        }
        task = {
            n: (t.float() + 2e-4 * torch.randn(t.shape, generator=generator)).to(task_dtype)
            for n, t in base.items()
        }
        save_file(base, folder / "base" / shard)
        save_file(task, folder / "task" / shard)
        index |= dict.fromkeys(names, shard)
    for name in ("base", "task"):
        text = json.dumps({"weight_map": index})
        (folder / name / "model.safetensors.index.json").write_text(text)
    return folder / "base", folder / "task"


def read_once(base: Path, task: Path) -> None:
    """Every byte of both checkpoints, into one buffer."""
    buffer = bytearray(2**24)
    for path in sorted([*base.glob("*.safetensors"), *task.glob("*.safetensors")]):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def score(base: Path, task: Path, layers: int, variant: str) -> None:
    """All heads by this package."""
    matrix, metrics = VARIANTS[variant]
    localize_metrics(base, task, {m: {} for m in metrics}, geometry=shape(layers), matrix=matrix)


def scipy_loop(base: Path, task: Path, layers: int, matrix: str, heads: int) -> None:
    """The plain way: softmax of both matrices of a head, then scipy's distance on the grid."""
    geometry = shape(layers)
    groups = [QKVCheckpoint(place, geometry).group(0, 0) for place in (base, task)]
    pairs = list(head_pairs(*groups, geometry, matrix, "ignore"))[:heads]
    for pair in pairs:
        vectors = [np.exp(x - x.max()) for x in pair.flat()]
        p, q = (v / v.sum() for v in vectors)
        grid = np.linspace(0, 1, len(p))
        wasserstein_distance(grid, grid, p, q)


def products_of_a_layer(base: Path, task: Path, layers: int) -> Callable[[], None]:
    """The float64 matrix products of eq. 5 in one layer, on all cores, and nothing else."""
    geometry = shape(layers)
    groups = [
        QKVCheckpoint(place, geometry).group(0, g) for place in (base, task) for g in range(8)
    ]
    doubles = [[w.double().numpy() for w in group.weights] for group in groups]

    num_threads = torch.get_num_threads()

    def one_group(weights: list[np.ndarray]) -> None:
        q, k, v = weights
        inner, out = v @ k.T, np.empty((128, WIDTH))
        for head in q.reshape(4, 128, WIDTH):
            np.dot(inner, head, out=out)

    def all_groups() -> None:
        with retain_freed_memory(), threadpool_limits(1), ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(one_group, doubles))

    return all_groups


def seconds(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def peak_memory(base: Path, task: Path, layers: int, variant: str) -> float:
    """Peak resident MB of a process that only does this."""
    command = [sys.executable, __file__, "--layers", str(layers), "--only", variant]
    done = subprocess.run([*command, str(base), str(task)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Prints one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--only", nargs=3, metavar=("VARIANT", "BASE", "TASK"))
    arguments = parser.parse_args()
    if arguments.only:
        variant, base, task = arguments.only
        score(Path(base), Path(task), arguments.layers, variant)
        print(peak_bytes(on_gpu=False) / 1e6)
        return
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.task]
    with tempfile.TemporaryDirectory(prefix="alps-benchmark-") as folder:
        report(*build_pair(Path(folder), arguments.layers, dtype), arguments.layers, arguments)


def report(base: Path, task: Path, layers: int, arguments: argparse.Namespace) -> None:
    """Interleaved rounds, medians, ratios."""
    total_heads = shape(layers).total_heads
    jobs: dict[str, Callable[[], None]] = {"read the bytes once": lambda: read_once(base, task)}
    for variant in VARIANTS:
        jobs[variant] = lambda v=variant: score(base, task, layers, v)
    jobs[PRODUCTS] = products_of_a_layer(base, task, layers)
    for matrix in ("product", "concat"):
        jobs[f"scipy loop, {matrix}"] = lambda m=matrix: scipy_loop(
            base, task, layers, m, SAMPLED_HEADS
        )
    for job in jobs.values():
        job()  # page cache, imports
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(arguments.rounds):
        for name, job in jobs.items():
            times[name].append(seconds(job))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    medians[PRODUCTS] *= layers
    for matrix in ("product", "concat"):
        medians[f"scipy loop, {matrix}"] *= total_heads / SAMPLED_HEADS
    print(
        f"{layers} layers, {total_heads} heads, task {arguments.task}, {arguments.rounds} rounds;"
    )
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},")
    print(f"numpy {version('numpy')}, scipy {version('scipy')}, BLAS {_blas()}\n")
    print("| what | seconds | spread | heads/s | scipy / this | peak MB |")
    print("|---|---|---|---|---|---|")
    for name, median in medians.items():
        taken = times[name]
        middle = statistics.median(taken)
        spread = f"{min(taken) / middle:.2f}-{max(taken) / middle:.2f}"
        cells = [name, f"{median:.2f}", spread, f"{total_heads / median:.0f}", "", ""]
        if name in VARIANTS:
            reference = medians[f"scipy loop, {VARIANTS[name][0]}"]
            cells[4] = f"{reference / median:.0f}"
            cells[5] = f"{peak_memory(base, task, layers, name):.0f}"
        if name.startswith("scipy"):
            cells[0] += f" ({SAMPLED_HEADS} heads, extrapolated)"
        if name == PRODUCTS:
            cells[0] += " (one layer, extrapolated)"
        print(f"| {' | '.join(cells)} |")


def _blas() -> str:
    found = {i["internal_api"] + " " + str(i["version"]) for i in threadpool_info()
             if i["user_api"] == "blas"}  # fmt: skip
    return ", ".join(sorted(found))


if __name__ == "__main__":
    main()
