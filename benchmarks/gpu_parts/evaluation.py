"""Tokens per second of evaluations: our engine, lm-eval's, and vLLM's."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from random import Random
from typing import Any
from unittest.mock import patch

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from alps.evals.engine.hf import HFEngine
from alps.evals.precision import matmul_precision
from alps.models.byte_tokenizer import byte_tokenizer
from alps.settings.infrastructure import EvaluationPrecision
from gpu_parts.models import random_model, run_of
from gpu_parts.report import DASH, DEVICE, Failure, Report, clock

HEADER = "Answer the question and give reasons for each step. "
"""Beginning that all prompts share, as shots of a benchmark do."""


def evaluate(report: Report) -> None:
    """Generated tokens, and tokens of prompts whose choices are scored, each per second."""
    name = report.models[0]
    count, new = (3, 4) if report.tiny else (128, 256)
    texts = _prompts(count)
    cells = []
    precisions: list[EvaluationPrecision] = ["32", "bf16"]
    if DEVICE.type == "cuda":
        precisions.insert(1, "tf32")
    for precision in precisions:
        with matmul_precision(precision):
            model = report.attempt(f"model in {precision}", lambda: _model(report, name, precision))  # noqa: B023
            if isinstance(model, Failure):
                cells.append((precision, DASH, model.text, DASH, DASH, DASH))
                continue
            engines = {
                "ours": lambda m=model: HFEngine(m, byte_tokenizer(), "auto", None),
                "lm-eval's HFLM": lambda m=model: HFLM(
                    pretrained=m, tokenizer=byte_tokenizer(), batch_size=count, device=str(DEVICE)
                ),
            }
            ways = {
                engine: lambda b=make, m=model: _speeds(m, b(), texts, new)
                for engine, make in engines.items()
            }
            found = report.in_rounds(f"evaluate, {precision}", ways)
            cells += [(precision, engine, *_cells(r, found["ours"])) for engine, r in found.items()]
        del model, engines, ways
    if find_spec("vllm") and DEVICE.type == "cuda":
        speed = report.attempt("vLLM", lambda: vllm_speed(report, name, texts, new))
        shown = speed.text if isinstance(speed, Failure) else f"{speed:.0f}"
        cells.append(("bf16", "vLLM", shown, DASH, DASH, DASH))
    else:
        why = "not installed" if DEVICE.type == "cuda" else "needs a GPU"
        cells.append(("bf16", "vLLM", why, DASH, DASH, DASH))
    columns = ("precision", "engine", "new tokens/s", "of ours", "prompt tokens/s", "of ours")
    report.table(f"{name}: {count} prompts, {new} new tokens each; 2 choices each", columns, cells)


def _prompts(count: int) -> list[str]:
    """Prompts of growing length; a token is a byte."""
    draw = Random(0)
    return [HEADER + "".join(draw.choices("abcdefgh ", k=32 + 4 * i)) for i in range(count)]


def _model(report: Report, name: str, precision: str) -> Any:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return random_model(run_of(report, name), dtype).eval()


def _speeds(model: Any, engine: Any, texts: Sequence[str], new: int) -> tuple[float, float]:
    """New tokens and prompt tokens per second, after a few that warm up."""
    options = {"until": [], "max_gen_toks": new, "do_sample": False}
    prompts = [_instance("generate_until", text, dict(options), i) for i, text in enumerate(texts)]
    choices = [
        _instance("loglikelihood", text, choice, i)
        for i, text in enumerate(texts)
        for choice in (" abc", " hgfed")
    ]
    for kind, requests in (("generate_until", prompts), ("loglikelihood", choices)):
        getattr(engine, kind)(requests[-2:], disable_tqdm=True)
    with _counted(model) as counted:
        seconds = clock(lambda: engine.generate_until(prompts, disable_tqdm=True))
    tokens = sum(len((text + choice).encode()) for text in texts for choice in (" abc", " hgfed"))
    scored = clock(lambda: engine.loglikelihood(choices, disable_tqdm=True))
    return counted[0] / seconds, tokens / scored


def _instance(kind: Any, context: str, other: Any, number: int) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=(context, other), idx=number)


@contextmanager
def _counted(model: Any) -> Iterator[list[int]]:
    """Counts what `generate` computes: an end-of-text token may end a batch early."""
    counts, generate = [0], model.generate

    def counting(*arguments: Any, **options: Any) -> Any:
        sequences = generate(*arguments, **options)
        width = options["input_ids"].shape[1]
        counts[0] += (sequences.shape[1] - width) * len(sequences)
        return sequences

    with patch.object(model, "generate", counting):
        yield counts


def _cells(
    results: list[tuple[float, float]] | Failure, ours: list[tuple[float, float]] | Failure
) -> tuple[str, ...]:
    if isinstance(results, Failure):
        return results.text, DASH, DASH, DASH
    cells = []
    for i in range(2):
        ratio = DASH
        if not isinstance(ours, Failure):
            pairs = zip(results, ours, strict=True)
            ratio = f"{statistics.median(a[i] / b[i] for a, b in pairs):.2f}"
        cells += [f"{statistics.median(r[i] for r in results):.0f}", ratio]
    return tuple(cells)


def vllm_speed(report: Report, name: str, texts: Sequence[str], new: int) -> float:
    """New tokens per second of vLLM on a checkpoint of the same weights."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    tokenizer = byte_tokenizer()
    prompts = [{"prompt_token_ids": tokenizer.encode(text)} for text in texts]
    with tempfile.TemporaryDirectory(dir=report.scratch) as folder:
        random_model(run_of(report, name), torch.bfloat16).save_pretrained(folder)
        torch.cuda.empty_cache()
        engine = LLM(folder, skip_tokenizer_init=True, gpu_memory_utilization=0.6)
        options = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        answer: Callable[[], Any] = lambda: engine.generate(prompts, options, use_tqdm=False)  # noqa: E731
        answer()
        seconds = clock(answer)
        return sum(len(each.outputs[0].token_ids) for each in answer()) / seconds
