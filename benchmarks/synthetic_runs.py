"""Folders of runs that never ran: real file formats, random numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

from alps.base.atomic import write_json, write_text
from alps.base.serialization import to_dict
from alps.config.build import build, compose_config
from alps.evals.statistics import Ratio, point_estimate, uncertainty
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet, top_heads
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.run import Run

GEOMETRY = Geometry(num_layers=16, num_heads=32, num_kv_heads=8, head_dim=64)
"""Of Llama-3.2-1B."""

METHODS = ("alps", "kl", "random", "full", "lora")
RATIOS = (0.1, 0.3, 0.5, 0.7)
DATA = ("mini_math", "mini_general")


def write_runs(output_dir: Path, count: int, points: int = 200, documents: int = 50) -> None:
    """Writes run folders with curves, heads, two evaluations and samples.

    Args:
        output_dir: Outputs folder.
        count: Number of runs.
        points: Optimizer steps of each.
        documents: Documents of each evaluation.
    """
    base = {
        (method, data): build(
            compose_config(
                [f"method={method}", f"data={data}", "model=tiny", f"output_dir={output_dir}"]
            )
        )
        for method, data in product(METHODS, DATA)
    }
    for number, run in enumerate(islice(_runs(base), count)):
        _write_run(run, number, points, documents)


def _runs(base: dict[tuple[str, str], Run]) -> Iterator[Run]:
    for seed, lr in product(range(1000), (1e-4, 3e-4)):
        for (method, data), ratio in product(base, RATIOS):
            run = base[method, data]
            run = replace(run, seed=seed, optim=replace(run.optim, lr=lr))
            if hasattr(run.method, "ratio"):
                yield replace(run, method=replace(run.method, ratio=ratio))
            elif ratio == RATIOS[0]:
                yield run


def _write_run(run: Run, number: int, points: int, documents: int) -> None:
    chance, folder = random.Random(number), RunFolder(run.folder)
    folder.write_run(run)
    if number % 50 == 49:
        folder.set_status("failed", "ran out of memory at micro-batches of one example")
        return
    ratio = getattr(run.method, "ratio", None)
    lines = ["step,loss,lr,tokens,seconds"]
    for step in range(1, points + 1):
        loss = 2.5 * (0.3 + 0.7 / (1 + step / 30)) + chance.gauss(0, 0.05)
        lines.append(f"{step},{loss},{1e-4},{step * 2048},{step * 0.731:.3f}")
    write_text(folder.metrics_path, "\n".join(lines) + "\n")
    if ratio is not None:
        _write_heads(folder, ratio, chance)
    found = [_evaluation(run, b, folder, documents, chance) for b in run.evals.benchmarks]
    share = ratio or (1.0 if run.method.name == "full" else 0.02)
    Result(
        key=run.key,
        model=run.model.name,
        data=run.data.name,
        method=run.method.name,
        ratio=ratio,
        seed=run.seed,
        num_trainable=int(1e8 * share),
        trainable_fraction=share * chance.uniform(0.9, 1.0),
        qkv_fraction=share,
        train_seconds=100 * (1 + share) * chance.uniform(0.9, 1.1),
        tokens_per_second=2800.0,
        peak_memory_bytes=int(2e9 * (1 + share)),
        final_train_loss=loss,
        precision="bf16-mixed",
        devices=1,
        num_steps=points,
        evals={e.name: e.metrics for e in found},
        uncertainty={e.name: e.uncertainty for e in found},
        data_hash="0" * 64,
        base_hash="1" * 64,
    ).write(folder.result_path)
    folder.set_status("finished")


def _write_heads(folder: RunFolder, ratio: float, chance: random.Random) -> None:
    g = GEOMETRY
    scores = [[chance.lognormvariate(-12, 1) for _ in range(g.num_heads)]
              for _ in range(g.num_layers)]  # fmt: skip
    heads = HeadSet(
        heads=tuple(top_heads(scores, round(ratio * g.total_heads))),
        geometry=g,
        metric="pad",
        ratio=ratio,
        scores=tuple(map(tuple, scores)),
    )
    write_json(folder.heads_path, heads.to_json())


def _evaluation(
    run: Run, benchmark, folder: RunFolder, documents: int, chance: random.Random
) -> Evaluation:
    """An evaluation with losses or samples, written as the benchmark does."""
    own = folder.evaluation_path(benchmark.name, benchmark.protocol).with_suffix("")
    if benchmark.name == "held_out":
        values = [chance.uniform(20, 60) for _ in range(documents)]
        record = {"documents": run.data.name, "losses": values, "tokens": [30] * documents}
        write_json(own / "losses.json", record)
        part, metric = Ratio(values, [30] * documents, proportion=False), "loss"
    else:
        values = [float(chance.random() < 0.6) for _ in range(documents)]
        metric = next(iter(benchmark.metrics))
        name, _, wanted = benchmark.metrics[metric].partition(",")
        samples = [_sample(i, name, wanted, value, chance) for i, value in enumerate(values)]
        write_text(own / f"samples_{benchmark.name}.jsonl", "".join(samples))
        part = Ratio(values)
    spread = uncertainty(part)
    assert spread is not None
    found = Evaluation(
        benchmark=to_dict(benchmark),
        weights="w",
        metrics={metric: point_estimate(part)},
        uncertainty={metric: vars(spread) if hasattr(spread, "__dict__") else spread._asdict()},
        num_documents=documents,
    )
    found.write(folder)
    return found


def _sample(i: int, metric: str, wanted: str, value: float, chance: random.Random) -> str:
    own = " ".join(chance.randbytes(4).hex() for _ in range(30))  # no two runs answer alike
    record = {
        "doc_id": i,
        "doc_hash": f"h{i}",
        "target": f"{7 * i} * 3 = {21 * i}\n#### {21 * i}",
        "arguments": {"gen_args_0": {"arg_0": f"What do {7 * i} apples of 3 dollars cost? " * 4}},
        "resps": [["They cost that much. " * 8 + f"#### {21 * i if value else i}"]],
        "filtered_resps": [f"They cost {own}. #### {21 * i if value else i}"],
        "filter": wanted,
        "metrics": [metric],
        metric: value,
    }
    return json.dumps(record) + "\n"
