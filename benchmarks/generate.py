"""How fast are a benchmark's answers generated, beside lm-eval's own HFLM?

Takes the requests of a benchmark as they are asked and answers them in interleaved rounds with:
HFLM at batch size 1, HFLM at the batch size that ours chooses, and `alps.evals.engine.hf`. Figures
that matter are the ratios of one run. Every answer that differs from HFLM's at batch size 1 is
listed with the gap (in logits) between the two tokens at which the answers part.

    python benchmarks/generate.py --data-dir FOLDER
    python benchmarks/generate.py --benchmark mmlu_val --limit 40 --data-dir FOLDER
    python benchmarks/generate.py --benchmark mini_math --limit 48
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from alps.config.build import build, compose_config
from alps.evals.engine.hf import HFEngine
from alps.evals.engine.journal import Journal
from alps.evals.engine.language_model import LanguageModel
from alps.evals.harness.benchmark import HarnessTask
from alps.evals.harness.run import run_task
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer


class Listener(LM):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[str, list[Instance]] = {"generate_until": [], "loglikelihood": []}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Prompts."""
        self.requests["generate_until"] += requests
        return [""] * len(requests)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Prompts and continuations."""
        self.requests["loglikelihood"] += requests
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: Any) -> Any:
        """Nobody asks."""
        raise NotImplementedError


def asked(run: Any, tokenizer: Any) -> tuple[str, list[Instance]]:
    """The requests of the run's only benchmark, and what they ask for."""
    (benchmark,) = run.evals.benchmarks
    assert isinstance(benchmark, HarnessTask)
    documents = dict(benchmark.documents(run.evals.documents_dir))
    documents["test"] = benchmark.limited(documents["test"])
    listener = Listener()
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), "")
        lm = LanguageModel(listener, journal, tokenizer, run.data.template, benchmark.name)
        run_task(benchmark, documents, lm)
    return next((kind, found) for kind, found in listener.requests.items() if found)


def parting(model: Any, tokenizer: Any, prompt: str, one: str, other: str) -> tuple[int, float]:
    """The answers' first different token, and how far apart its two candidates are in logits."""
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    first, second = encode(one), encode(other)
    pairs = zip(first, second, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
    end = tokenizer.eos_token_id
    candidates = [(ids[same] if same < len(ids) else end) for ids in (first, second)]
    ids = torch.tensor([tokenizer(prompt)["input_ids"] + first[:same]])
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    return same, float(logits[candidates[0]] - logits[candidates[1]])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", default="gsm8k")
    parser.add_argument("--model", default="smollm2_135m_q4")
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, help="shorter answers than the benchmark's")
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    place = [f"evals.data_dir={given.data_dir.resolve()}"] if given.data_dir else []
    chosen = f"+evals/benchmark@evals.benchmarks.it={given.benchmark}"
    settings = [f"model={given.model}", "evals=none", chosen, f"evals.limit={given.limit}", *place]
    if given.max_new_tokens:
        settings.append(f"evals.benchmarks.it.max_new_tokens={given.max_new_tokens}")
    run = build(compose_config(settings))
    folder = materialize(run.model)
    model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
    kind, requests = asked(run, tokenizer)
    ours = HFEngine(model, tokenizer, "auto", None)
    getattr(ours, kind)(requests[:1], disable_tqdm=True)  # warm up
    size = 0
    ways: dict[str, Callable[[], Any]] = {
        "HFLM, batch size 1": lambda: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
        "HFLM, batch size as ours": lambda: HFLM(
            pretrained=model, tokenizer=tokenizer, batch_size=size
        ),
        "ours": lambda: HFEngine(model, tokenizer, "auto", None),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, Sequence[Any]] = {}
    for number in range(given.rounds):
        for way in list(ways)[:: -1 if number % 2 == 0 else 1]:  # ours first: it says the size
            engine = ways[way]()
            began = time.perf_counter()
            answers[way] = getattr(engine, kind)(requests, disable_tqdm=True)
            seconds[way].append(time.perf_counter() - began)
            size = engine.batch_size if way == "ours" else size
            print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} s", flush=True)
    report(given, kind, requests, seconds, answers, size)
    if kind == "generate_until":
        list_differences(model, tokenizer, requests, answers)
    else:
        first = answers["HFLM, batch size 1"]
        gaps = [abs(a[0] - b[0]) for a, b in zip(first, answers["ours"], strict=True)]
        print(f"\nlargest difference of a log-likelihood: {max(gaps):.1e} nats")


def report(
    given: Any,
    kind: str,
    requests: Sequence[Instance],
    seconds: dict[str, list[float]],
    answers: dict[str, Sequence[Any]],
    size: int,
) -> None:
    """Prints versions and the table."""
    print(
        f"\n{given.model}, {given.benchmark}, {len(requests)} requests ({kind}), "
        f"batch size {size}; "
        f"{os.cpu_count()} cores of {platform.machine()}, torch {version('torch')}, "
        f"lm-eval {version('lm-eval')}, transformers {version('transformers')}\n"
    )
    print("| way | seconds (median) | times HFLM at batch size 1 | other answers |")
    print("|---|---|---|---|")
    base = statistics.median(seconds["HFLM, batch size 1"])
    for way, found in seconds.items():
        took = statistics.median(found)
        pairs = zip(answers["HFLM, batch size 1"], answers[way], strict=True)
        others = sum(a != b for a, b in pairs) if kind == "generate_until" else "-"
        print(f"| {way} | {took:.1f} | {base / took:.2f} | {others} |")


def list_differences(
    model: Any, tokenizer: Any, requests: Sequence[Instance], answers: dict[str, Sequence[str]]
) -> None:
    """Prints where our answers part from HFLM's, and how near the two tokens were."""
    first = answers["HFLM, batch size 1"]
    for request, one, other in zip(requests, first, answers["ours"], strict=True):
        if one != other:
            place, gap = parting(model, tokenizer, request.args[0], one, other)
            print(f"document {request.doc_id}: parts at token {place}, logit gap {gap:.2e}")


if __name__ == "__main__":
    main()
