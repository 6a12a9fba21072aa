"""What training, evaluation and memory cost on one GPU, at the shapes of Llama-3 1B, 3B and 8B.

    python benchmarks/gpu.py --out benchmarks/gpu.md
    python benchmarks/gpu.py --models 1b --parts train,kernels --rounds 3
    python benchmarks/gpu.py --tiny          # every part in seconds, also without a GPU

Weights are random and made on the device: nothing is downloaded. Every round measures each way
once, in another order; times are medians over rounds of the median step. A way that does not fit
says so.
Parts: `train` (an optimizer step by what trains, and memory predicted and measured), `gpu24`
(`preset=gpu24`: the largest model below 24 GB), `evaluate` (generated tokens per second), `kernels`
(attention over packed examples, chunked loss, Liger's, torch.compile), `localize` (scores of an
8B-shaped pair, by `benchmarks/localize.py`).
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from alps.base.provenance import git_state
from alps.config.build import build, compose_config
from alps.cost.memory import Storage, peak_memory
from alps.cost.shape import ModelShape
from alps.data.batches import pack
from alps.data.encoding.encode import EncodedExample
from alps.heads.head_set import HeadSet
from alps.models.apply import apply, cast_frozen, checkpoint_activations
from alps.models.architecture import output_logits
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.loss import answer_loss
from alps.models.packed_attention import NAME, packed_attention
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.settings.run import Optim
from alps.training.memory import peak_bytes, reset_peak
from alps.training.optimizer import build_optimizer

MODELS = {"1b": "llama3_2_1b", "3b": "llama3_2_3b", "8b": "llama3_1_8b", "tiny": "tiny"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GIB = 2**30
OPTIM = Optim(lr=1e-5, batch_size=8, epochs=1)
MIXED = Storage(activation_bytes=2)


class Bench:
    """Arguments, and the report as it grows."""

    def __init__(self, given: argparse.Namespace):
        """Sizes from the arguments."""
        self.tiny, self.out = given.tiny, given.out
        self.models = ["tiny"] if given.tiny else given.models.split(",")
        self.rounds = 1 if given.tiny else given.rounds
        self.steps = 2 if given.tiny else given.steps
        self.rows, self.length = (2, 32) if given.tiny else (given.rows, given.length)
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Prints lines, and writes the report again."""
        print("\n".join(lines), flush=True)
        self.lines += lines
        if self.out:
            self.out.write_text("\n".join(self.lines) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A Markdown table."""
        self.say("", f"### {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns))
        self.say(*(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows))

    def batch(self, vocab: int) -> dict[str, Any]:
        """Packed examples of random tokens, half of each its answer."""
        draw = Random(0)
        ids = [[draw.randrange(vocab) for _ in range(self.length)] for _ in range(self.rows)]
        batch = pack([EncodedExample(row, self.length // 2) for row in ids], 0)
        batch.pop("num_tokens")
        return {n: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for n, v in batch.items()}


def config_of(name: str) -> LlamaConfig:
    """Shape of a model, from its settings."""
    model = build(compose_config([f"model={MODELS[name]}", "evals=none"])).model
    shape = dict(model.shape or {**(model.random or {}), "vocab_size": 260})
    shape.pop("model_type", None)
    shape["max_position_embeddings"] = 8192
    return LlamaConfig(**shape, attn_implementation=NAME)


def random_model(name: str, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A model with random weights, made on the device."""
    config = config_of(name)
    config.dtype = dtype
    with DEVICE:
        return LlamaForCausalLM(config).to(dtype)


def plans(shape: ModelShape) -> dict[str, TrainingPlan]:
    """What trains, by way."""
    geometry, draw = shape.geometry, Random("gpu")
    count = geometry.count(0.1)
    top = [h for h in geometry.heads() if h[0] >= geometry.num_layers * 2 // 3]
    anywhere = HeadSet(heads=tuple(draw.sample(geometry.heads(), count)), geometry=geometry)
    upper = HeadSet(heads=tuple(draw.sample(top, min(count, len(top)))), geometry=geometry)
    rank = min(128, shape.hidden // 4)
    lora = LoraShape(rank=rank, alpha=float(rank), targets=("q_proj", "k_proj", "v_proj"))
    return {
        "full": TrainingPlan(qkv="all", rest=True),
        "rest_trains": TrainingPlan(qkv="heads", rest=True, heads=anywhere),
        "heads_only": TrainingPlan(qkv="heads", rest=False, heads=anywhere),
        "heads_only, top third": TrainingPlan(qkv="heads", rest=False, heads=upper),
        "LoRA": TrainingPlan(qkv="none", rest=False, lora=lora),
    }


@contextmanager
def fresh_memory() -> Iterator[None]:
    """Frees what came before, and measures the peak from here."""
    gc.collect()
    reset_peak()
    yield
    gc.collect()


def fits(measure: Callable[[], Any]) -> Any:
    """What `measure` returns, or None if memory runs out."""
    try:
        return measure()
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def clock(work: Callable[[], Any]) -> float:
    """Seconds of one call, the device's work included."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def trained_step(model: nn.Module, batch: dict[str, Any], **options: Any) -> Callable[[], None]:
    """An optimizer step as the trainer makes it under bf16-mixed."""
    optimizer = build_optimizer(model.parameters(), OPTIM, fused=True)
    trainable = [p for p in model.parameters() if p.requires_grad]

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = answer_loss(model, **batch, **options)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measured_steps(bench: Bench, make: Callable[[], Callable[[], None]]) -> tuple[float, int]:
    """Median seconds of a step after two warm-up steps, and peak bytes."""
    with fresh_memory():
        step = make()
        for _ in range(1 if bench.tiny else 2):
            step()
        seconds = statistics.median(clock(step) for _ in range(bench.steps))
        return seconds, peak_bytes()


def peft_steps(bench: Bench, name: str, batch: dict[str, Any]) -> tuple[float, int]:
    """As `measured_steps`, for LoRA as PEFT and the HF Trainer train it on the same rows."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        marks: tuple[float, ...] = ()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock(lambda: None)  # waits for the device
            self.marks += (time.perf_counter(),)

    with fresh_memory(), tempfile.TemporaryDirectory() as folder:
        shape = ModelShape.of(config_of(name).to_dict(), name)
        model: Any = apply(random_model(name), plans(shape)["LoRA"])
        model.config._attn_implementation = "sdpa"
        row = {n: batch[n][0].cpu() for n in ("input_ids", "labels", "position_ids")}
        steps = bench.steps + 2
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=1,
            max_steps=steps,
            bf16=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=DEVICE.type == "cpu",
            dataloader_pin_memory=False,
        )
        marks = Clock()
        data: Any = [row] * steps
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[marks]).train()
        seconds = [b - a for a, b in itertools.pairwise(marks.marks)][1:]
        return statistics.median(seconds), peak_bytes()


def train(bench: Bench) -> None:
    """An optimizer step by what trains, in interleaved rounds."""
    for name in bench.models:
        shape = ModelShape.of(config_of(name).to_dict(), name)
        batch = bench.batch(shape.vocab)
        tokens = bench.rows * bench.length
        ways = plans(shape)

        def make(plan: TrainingPlan) -> Callable[[], None]:
            return trained_step(apply(random_model(name), plan).train(), batch)  # noqa: B023

        found: dict[str, list[tuple[float, int]]] = {way: [] for way in (*ways, "PEFT's LoRA")}
        for number in range(bench.rounds):
            for way in list(found)[:: 1 if number % 2 == 0 else -1]:
                plan = ways.get(way)
                if plan is None:
                    result = fits(lambda: peft_steps(bench, name, batch))  # noqa: B023
                else:
                    result = fits(lambda: measured_steps(bench, lambda: make(plan)))  # noqa: B023
                if result is not None:
                    found[way].append(result)
        full = statistics.median(s for s, _ in found["full"]) if found["full"] else math.nan
        rows = []
        for way, results in found.items():
            predicted = "—"
            if way in ways:
                answers = bench.rows * (bench.length - bench.length // 2)
                total = peak_memory(shape, ways[way], tokens, answers, MIXED).total
                predicted = f"{total / GIB:.2f}"
            if not results:
                rows.append((way, "out of memory", "", "", predicted, ""))
                continue
            seconds = statistics.median(s for s, _ in results)
            peak = max(p for _, p in results) / GIB
            speed = f"{tokens / seconds:.0f}"
            rows.append(
                (way, f"{seconds:.4f}", f"{seconds / full:.2f}", speed, predicted, f"{peak:.2f}")
            )
        title = f"{name}: a step of {bench.rows} packed examples of {bench.length} tokens"
        columns = ("trains", "s", "of full", "tokens/s", "GiB predicted", "GiB measured")
        bench.table(title, columns, rows)


def gpu24(bench: Bench) -> None:
    """`preset=gpu24`: bfloat16 base, rows of heads only, activations computed twice."""
    name = bench.models[-1]
    shape = ModelShape.of(config_of(name).to_dict(), name)
    batch = bench.batch(shape.vocab)

    def make() -> Callable[[], None]:
        model = apply(random_model(name, torch.bfloat16), plans(shape)["heads_only"]).train()
        cast_frozen(model, "bfloat16")
        checkpoint_activations(model)
        return trained_step(model, batch)

    result = fits(lambda: measured_steps(bench, make))
    row = ("out of memory", "")
    if result is not None:
        row = (f"{result[0]:.4f}", f"{result[1] / GIB:.2f}")
    bench.table(f"{name}: preset=gpu24", ("s", "GiB measured"), [row])


def evaluate(bench: Bench) -> None:
    """Generated tokens per second of the smallest model, by engine and precision."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from alps.evals.engine.hf import HFEngine

    name, tokenizer = bench.models[0], byte_tokenizer()
    num_prompts, new = (2, 4) if bench.tiny else (64, 128)
    draw = Random(0)
    texts = ["".join(draw.choices("abcdefgh ", k=32 + 4 * i)) for i in range(num_prompts)]
    options = {"until": [], "max_gen_toks": new, "do_sample": False}
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(text, dict(options)), idx=i)
        for i, text in enumerate(texts)
    ]
    rows = []
    for precision in ("float32", "TF32", "bfloat16"):
        if precision == "TF32" and DEVICE.type == "cpu":
            continue
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if precision == "TF32" else "highest")
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        model = random_model(name, dtype).eval()
        engines: dict[str, Callable[[], Any]] = {
            "ours": lambda m=model: HFEngine(m, tokenizer, "auto", None),
            "HFLM": lambda m=model: HFLM(
                pretrained=m, tokenizer=tokenizer, batch_size=num_prompts, device=str(DEVICE)
            ),
        }
        seconds: dict[str, list[float]] = {engine: [] for engine in engines}
        for number in range(bench.rounds + 1):
            for engine, build_engine in engines.items():
                answer = build_engine().generate_until
                took = clock(lambda a=answer: a(requests, disable_tqdm=True))
                if number or bench.tiny:  # the first round warms up
                    seconds[engine].append(took)
        torch.set_float32_matmul_precision(before)
        speeds = [num_prompts * new / statistics.median(times) for times in seconds.values()]
        rows.append((precision, *(f"{speed:.0f}" for speed in speeds)))
    if find_spec("vllm") and DEVICE.type == "cuda":
        rows.append(("bfloat16, vLLM", f"{vllm_speed(name, texts, new):.0f}", ""))
    columns = ("weights and products", "ours, tokens/s", "HFLM, tokens/s")
    bench.table(f"{name}: {num_prompts} prompts, at most {new} tokens each", columns, rows)


def vllm_speed(name: str, texts: Sequence[str], new: int) -> float:
    """Generated tokens per second of vLLM, on a checkpoint of its own."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        random_model(name, torch.bfloat16).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        engine = LLM(folder, gpu_memory_utilization=0.5)
        options = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)
        engine.generate(list(texts), options, use_tqdm=False)
        seconds = clock(lambda: engine.generate(list(texts), options, use_tqdm=False))
        return len(texts) * new / seconds


def kernels(bench: Bench) -> None:
    """Attention over packed examples, losses, and torch.compile."""
    name = bench.models[0]
    shape = ModelShape.of(config_of(name).to_dict(), name)
    batch = bench.batch(shape.vocab)
    g, tokens = shape.geometry, bench.rows * bench.length
    half = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    query = torch.randn(1, g.num_heads, tokens, g.head_dim, device=DEVICE, dtype=half)
    key, value = (
        torch.randn(1, g.num_kv_heads, tokens, g.head_dim, device=DEVICE, dtype=half)
        for _ in range(2)
    )
    lengths = [bench.length] * bench.rows
    module = nn.Identity()
    ours = lambda: packed_attention(module, query, key, value, None, lengths)[0]  # noqa: E731

    def loop() -> torch.Tensor:
        parts = zip(*(t.split(lengths, 2) for t in (query, key, value)), strict=True)
        grouped = g.num_heads != g.num_kv_heads
        outputs = [
            F.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=grouped)
            for part in parts
        ]
        return torch.cat(outputs, dim=2).transpose(1, 2)

    difference = float((ours() - loop()).abs().max())
    times = [statistics.median(clock(way) for _ in range(10)) for way in (ours, loop)]
    beside = "packed attention, beside a loop over examples"
    rows = [(beside, f"{times[0] / times[1]:.2f}", f"{difference:.1e}")]

    plan = plans(shape)["full"]
    model = apply(random_model(name), plan).train()
    base = trained_loss(model, batch)
    plain = statistics.median(clock(lambda: base(None)) for _ in range(bench.steps))
    chunk = max(tokens // 8, 1)
    chunked = statistics.median(clock(lambda: base(chunk)) for _ in range(bench.steps))
    gap = abs(base(chunk) - base(None)) / abs(base(None))
    beside = f"loss in chunks of {chunk}, beside all at once"
    rows.append((beside, f"{chunked / plain:.2f}", f"{gap:.1e}"))
    if find_spec("liger_kernel") and DEVICE.type == "cuda":
        rows.append(liger(model, shape))
    step = trained_step(model, batch)
    step()
    plain = statistics.median(clock(step) for _ in range(bench.steps))
    if not bench.tiny:
        model.model.compile()
        step()
        compiled = statistics.median(clock(step) for _ in range(bench.steps))
        rows.append(("torch.compile, beside eager", f"{compiled / plain:.2f}", ""))
    bench.table(f"{name}: kernels", ("what", "time", "difference"), rows)


def trained_loss(model: nn.Module, batch: dict[str, Any]) -> Callable[[int | None], float]:
    """Loss of a batch after its backward pass."""

    def loss(chunk: int | None) -> float:
        model.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            value = answer_loss(model, **batch, chunk=chunk)
        value.backward()
        return float(value.detach())

    return loss


def liger(model: nn.Module, shape: ModelShape) -> tuple[str, str, str]:
    """Liger's fused linear cross entropy beside ours, on hidden states."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # pyright: ignore

    hidden = torch.randn(2048, shape.hidden, device=DEVICE, dtype=torch.bfloat16)
    targets = torch.randint(0, shape.vocab, (2048,), device=DEVICE)
    weight = model.get_output_embeddings().weight.to(torch.bfloat16)  # pyright: ignore
    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")

    def ours() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            logits = output_logits(model, hidden)
        return F.cross_entropy(logits.float(), targets, reduction="sum")

    theirs = lambda: fused(weight, hidden, targets)  # noqa: E731
    gap = float((theirs().float() - ours()).abs() / ours())
    times = [statistics.median(clock(way) for _ in range(10)) for way in (theirs, ours)]
    return "Liger's loss, beside ours", f"{times[0] / times[1]:.2f}", f"{gap:.1e}"


def localize(bench: Bench) -> None:
    """Scores of an 8B-shaped pair, by the benchmark that has them."""
    script = Path(__file__).with_name("localize.py")
    layers = "1" if bench.tiny else "32"
    options = ["--layers", layers, "--rounds", "1"]
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
    bench.say("", f"### Scores of an 8B-shaped pair of {layers} layers", "")
    bench.say(done.stdout.strip() or done.stderr.strip()[-500:])


PARTS = {
    "train": train, "gpu24": gpu24, "evaluate": evaluate, "kernels": kernels, "localize": localize,
}  # fmt: skip


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="1b,3b,8b")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    bench = Bench(given)
    device = torch.cuda.get_device_name(0) if DEVICE.type == "cuda" else platform.machine()
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "peft", "lm-eval"))
    bench.say(f"{device}; {versions}; commit {git_state()[0]}")
    bench.say("", f"`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`")
    for part in given.parts.split(","):
        try:
            PARTS[part](bench)
        except Exception as error:  # the other parts' tables are worth having
            text = " ".join(str(error).split())[:300]
            bench.say("", f"### {part}: failed", "", f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    main()
