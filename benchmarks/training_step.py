"""What does an optimizer step cost, by method? And how long until the same examples are learned?

Two tables, each from one run with interleaved rounds:

- `steps`: one optimizer step on SmolLM2-135M, 4 x 256 tokens (or `--mix`: the lengths of the
  embedded data), by what trains. Forward, backward, optimizer, their sum as a share of full
  fine-tuning's, the share of operations that `alps.cost` counts, parameters, optimizer bytes, and
  peak resident memory of a process of its own.
- `ladder`: the usual padded full fine-tune, then one change a row, each on the same examples for
  the same epochs, with the loss on held-out rows beside the time. Each way of training has the best
  of the same learning rates, chosen on other rows; heads are scored against the ladder's own full
  fine-tune. Times are of one epoch, times the epochs.

    python benchmarks/training_step.py steps --rounds 5
    python benchmarks/training_step.py ladder --rows 96 --epochs 3
    python benchmarks/training_step.py compile
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from alps.config.build import build, compose_config
from alps.cost.flops import Workload, flops_vs_full
from alps.cost.shape import ModelShape
from alps.data.batches import MicroBatches, Schedule, pack
from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample, encode
from alps.data.subset import training_examples
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models.apply import apply
from alps.models.architecture import attentions, decoder_of, read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer, pad_id
from alps.models.loss import answer_loss
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.settings.run import Run
from alps.training.memory import peak_bytes, reset_peak

LR = 1e-4


class MaskedRows(nn.Module):
    """A gradient hook that zeroes all rows but some: what "masking" usually means."""

    def __init__(self, weight: nn.Parameter, rows: list[int]):
        """Registers the hook on `weight`."""
        super().__init__()
        keep = torch.zeros(len(weight), 1)
        keep[rows] = 1
        weight.register_hook(lambda gradient: gradient * keep)


class S2Column(torch.autograd.Function):
    """S2FT's column layer on rows of a weight: a frozen product plus one of a small delta."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, index: Tensor) -> Tensor:
        """The delta's product, to be added to the chosen columns."""
        ctx.save_for_backward(x, delta)
        return F.linear(x, delta)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Both products in full."""
        x, delta = ctx.saved_tensors
        (grad,) = grads
        rows = grad.flatten(0, -2)
        return grad @ delta, rows.T @ x.flatten(0, -2), None


class S2Linear(nn.Module):
    """As S2FT's S2ColumnLinear: base layer, and a delta of zeros for the chosen rows."""

    def __init__(self, linear: nn.Linear, rows: list[int]):
        """Takes over `linear`, frozen."""
        super().__init__()
        self.base = linear.requires_grad_(False)
        self.register_buffer("index", torch.tensor(rows), persistent=False)
        self.delta = nn.Parameter(torch.zeros(len(rows), linear.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """The base's output with the delta's added to the chosen columns."""
        return self.base(x).index_add(-1, self.index, S2Column.apply(x, self.delta, self.index))


@dataclass(frozen=True)
class Way:
    """A row of the table: what trains, and how it is brought about."""

    name: str
    plan: TrainingPlan
    masked: bool = False
    s2ft: bool = False


def ways(geometry: Geometry) -> list[Way]:
    """All rows."""
    count, draw = geometry.count(0.1), Random("training step")
    top = [h for h in geometry.heads() if h[0] >= geometry.num_layers * 2 // 3]
    heads = HeadSet(heads=tuple(draw.sample(geometry.heads(), count)), geometry=geometry)
    upper = HeadSet(heads=tuple(draw.sample(top, count)), geometry=geometry)
    plan = lambda chosen, rest: TrainingPlan(qkv="heads", rest=rest, heads=chosen)  # noqa: E731
    lora = lambda rank: TrainingPlan(  # noqa: E731
        qkv="none",
        rest=False,
        lora=LoraShape(rank=rank, alpha=float(rank), targets=("q_proj", "k_proj", "v_proj")),
    )
    return [
        Way("full", TrainingPlan(qkv="all", rest=True)),
        Way("masked gradients, rest trains", plan(heads, True), masked=True),
        Way("HeadLinear, rest_trains", plan(heads, True)),
        Way("masked gradients, rest frozen", plan(heads, False), masked=True),
        Way("LoRA r=128", lora(128)),
        Way("LoRA of equal parameters", lora(_matched_rank(geometry, heads))),
        Way("S2FT's column layer, random heads", plan(heads, False), s2ft=True),
        Way("HeadLinear, heads_only, random heads", plan(heads, False)),
        Way("S2FT's column layer, top third", plan(upper, False), s2ft=True),
        Way("HeadLinear, heads_only, top third", plan(upper, False)),
    ]


def prepare(base: Path, way: Way) -> nn.Module:
    """The model of a row, ready to train."""
    model = load_model(base)
    if not (way.masked or way.s2ft):
        return apply(model, way.plan).train()
    heads = way.plan.heads
    assert heads is not None
    model.requires_grad_(way.plan.rest)
    for attention in attentions(model):
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(attention, name).weight.requires_grad_(False)
    for layer, attention in enumerate(attentions(model)):
        chosen = heads.by_layer().get(layer, [])
        kv_rows = heads.geometry.kv_rows(chosen, "any")
        rows = {"q_proj": heads.geometry.query_rows(chosen), "k_proj": kv_rows, "v_proj": kv_rows}
        for name, some in rows.items():
            if some and way.masked:
                weight = getattr(attention, name).weight.requires_grad_(True)
                MaskedRows(weight, some)
            elif some:
                setattr(attention, name, S2Linear(getattr(attention, name), some))
    return model.train()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict) -> list[float]:
    """One optimizer step; seconds of forward, backward and optimizer."""
    marks = [time.perf_counter()]
    loss = answer_loss(model, **batch)
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    marks.append(time.perf_counter())
    return [b - a for a, b in itertools.pairwise(marks)]


def batch_of(mix: bool) -> tuple[dict, Workload]:
    """4 samples of 256 tokens, half of them answer; or 16 samples of the embedded data, packed."""
    if mix:
        rows = embedded_rows(default_run(), 16)
    else:
        draw = Random(0)
        rows = [EncodedExample([draw.randrange(40000) for _ in range(256)], 128) for _ in range(4)]
    batch = pack(rows, 0)
    batch.pop("num_tokens")
    lengths, answers = [len(r.ids) for r in rows], [r.num_answer_tokens for r in rows]
    return batch, Workload.of(lengths, answers, len(rows))


def steps(arguments: argparse.Namespace) -> None:
    """The first table."""
    run = default_run()
    base = materialize(run.model)
    shape, rows = ModelShape.read(base), ways(read_geometry(base))[: arguments.first]
    if arguments.only is not None:
        measure_memory(base, rows[arguments.only], arguments.mix)
        return
    batch, work = batch_of(arguments.mix)
    models = [prepare(base, way) for way in rows]
    optimizers = [adamw(model) for model in models]
    times: list[list[list[float]]] = [[] for _ in rows]
    for round_ in range(arguments.rounds + 1):
        for i, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            taken = step(model, optimizer, batch)
            if round_:  # the first one warms up
                times[i].append(taken)
    middle = [[statistics.median(t[k] for t in taken) for k in range(3)] for taken in times]
    whole = [statistics.median(sum(t) for t in taken) for taken in times]
    print_conditions(arguments)
    print(
        "| way | forward | backward | optimizer | of full | operations | trainable | Adam MB | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for i, way in enumerate(rows):
        trained = sum(p.numel() for p in models[i].parameters() if p.requires_grad)
        plan = TrainingPlan(qkv="all", rest=True) if way.masked and way.plan.rest else way.plan
        cells = [
            way.name,
            *(f"{t / whole[0]:.2f}" for t in middle[i]),
            f"{whole[i] / whole[0]:.2f}",
        ]
        bound = "" if way.masked or way.s2ft else f"{flops_vs_full(shape, plan, work):.2f}"
        memory = memory_of(i, arguments)
        cells += [bound, f"{trained:,}", f"{8 * trained / 1e6:.0f}", f"{memory:.0f}"]
        print(f"| {' | '.join(cells)} |")
    print(f"\n1.00 is {whole[0]:.2f} s")


def memory_of(row: int, arguments: argparse.Namespace) -> float:
    """Peak resident MB of two steps in a process of their own."""
    command = [sys.executable, __file__, "steps", "--only", str(row)]
    command += ["--mix"] if arguments.mix else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def measure_memory(base: Path, way: Way, mix: bool) -> None:
    """Two steps; prints the peak."""
    batch, _ = batch_of(mix)
    model = prepare(base, way)
    optimizer = adamw(model)
    reset_peak(on_gpu=False)
    for _ in range(2):
        step(model, optimizer, batch)
    print(peak_bytes(on_gpu=False) / 1e6)


@dataclass(frozen=True)
class Rung:
    """A row of the ladder: what changed against the row above."""

    name: str
    plan: TrainingPlan
    batching: str = "packed"
    answers_only: bool = True


@dataclass(frozen=True)
class Lesson:
    """What every rung learns from, and is examined on."""

    base: Path
    rows: list[EncodedExample]
    chooses_lr: list[EncodedExample]
    held_out: list[EncodedExample]
    padding: int


def compiled(arguments: argparse.Namespace) -> None:
    """Steps of full and HeadLinear with and without torch.compile of the decoder."""
    base = materialize(default_run().model)
    batch, _ = batch_of(arguments.mix)
    full, _, rest, *_ = ways(read_geometry(base))
    print_conditions(arguments)
    print("| way | eager, s | compiled / eager | first compiled step, s |\n|---|---|---|---|")
    for way in (full, rest):
        torch.compiler.reset()
        models = [prepare(base, way) for _ in range(2)]
        decoder_of(models[1]).compile()
        optimizers = [adamw(model) for model in models]
        times: list[list[float]] = [[], []]
        for _ in range(arguments.rounds + 1):
            for taken, model, optimizer in zip(times, models, optimizers, strict=True):
                taken.append(sum(step(model, optimizer, batch)))
        eager, fast = (statistics.median(taken[1:]) for taken in times)
        print(f"| {way.name} | {eager:.2f} | {fast / eager:.2f} | {times[1][0]:.0f} |")


def ladder(arguments: argparse.Namespace) -> None:
    """The second table: what each rung learns at its best rate, then the times."""
    run = default_run(arguments.data)
    base = materialize(run.model)
    geometry = read_geometry(base)
    unseen = embedded_rows(run, 96, "test")
    lesson = Lesson(
        base=base,
        rows=embedded_rows(run, arguments.rows),
        chooses_lr=unseen[:32],
        held_out=unseen[32:],
        padding=pad_id(load_tokenizer(base)),
    )
    by_name = {way.name: way.plan for way in ways(geometry)}
    full = Rung("+ logits at answers only", by_name["full"])
    learned = Learned(arguments.learned)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.safetensors"
        learned.of(full, lambda: learn(lesson, full, arguments, task))
        heads = learned.heads(lambda: scored_heads(base, geometry, task), geometry)
    only = lambda chosen: TrainingPlan(qkv="heads", rest=False, heads=chosen)  # noqa: E731
    others = [
        Rung("LoRA r=128", by_name["LoRA r=128"]),
        Rung("LoRA of equal parameters", by_name["LoRA of equal parameters"]),
        *(Rung(f"alps heads_only, {name}", only(chosen)) for name, chosen in heads.items()),
    ]
    for rung in others:
        learned.of(rung, lambda rung=rung: learn(lesson, rung, arguments))
    print_conditions(arguments)
    for rung in (full, *others):
        tried = learned.found[rung.name]["tried"]
        print(f"{rung.name}: " + ", ".join(f"{loss:.3f} at {lr}" for lr, loss in tried.items()))
    rungs = [
        Rung("full, padded, logits everywhere", full.plan, "padded", answers_only=False),
        Rung("+ packed", full.plan, answers_only=False),
        full,
        *others,
    ]
    if arguments.rounds:
        time_rungs(lesson, rungs, learned, arguments)


class Learned:
    """What rungs have learned, kept in a file if one is given: times can be taken another day."""

    def __init__(self, path: Path | None):
        """Reads the file if it is there."""
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}

    def of(self, rung: Rung, make: Callable[[], dict[str, Any]]) -> None:
        """Lets a rung learn unless it has."""
        if rung.name not in self.found:
            self.keep(rung.name, make())

    def heads(
        self, make: Callable[[], dict[str, HeadSet]], geometry: Geometry
    ) -> dict[str, HeadSet]:
        """Chosen heads by name."""
        if "heads" not in self.found:
            self.keep("heads", {name: chosen.heads for name, chosen in make().items()})
        return {
            name: HeadSet(heads=tuple((layer, head) for layer, head in chosen), geometry=geometry)
            for name, chosen in self.found["heads"].items()
        }

    def keep(self, name: str, value: Any) -> None:
        """Remembers one more."""
        self.found[name] = json.loads(json.dumps(value))
        if self.path:
            self.path.write_text(json.dumps(self.found))


def time_rungs(
    lesson: Lesson, rungs: list[Rung], learned: Learned, arguments: argparse.Namespace
) -> None:
    """Interleaved rounds of one epoch of each rung, then the table."""
    times: list[list[float]] = [[] for _ in rungs]
    for _ in range(arguments.rounds):
        for i, rung in enumerate(rungs):
            model = apply(load_model(lesson.base), rung.plan).train()
            times[i].append(arguments.epochs * train(model, lesson, rung, 0.0, epochs=1))
            print(f"{rung.name}: {times[i][-1]:.1f} s", file=sys.stderr, flush=True)
    seconds = [statistics.median(taken) for taken in times]
    columns = ["rung", "trainable", "seconds", "padded full / this", "packed full / this"]
    columns += ["spread", "lr", "held-out loss"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    shape = ModelShape.read(lesson.base)
    for i, rung in enumerate(rungs):
        found = learned.found[rung.name if rung.name in learned.found else rungs[2].name]
        ratios = [f"{seconds[0] / seconds[i]:.2f}", f"{seconds[2] / seconds[i]:.2f}"]
        spread = f"{min(times[i]) / seconds[i]:.2f}-{max(times[i]) / seconds[i]:.2f}"
        cells = [rung.name, f"{shape.num_trainable(rung.plan) / 1e6:.1f} M", f"{seconds[i]:.0f}"]
        cells += [*ratios, spread, f"{found['lr']:g}", f"{found['loss']:.3f}"]
        print(f"| {' | '.join(cells)} |")


def learn(
    lesson: Lesson, rung: Rung, arguments: argparse.Namespace, keep: Path | None = None
) -> dict[str, Any]:
    """Trains at each rate until one is worse: held-out loss at the best, its rate, all losses.

    With `keep`, the weights of q, k and v at the best rate are left there: a task model.
    """
    tried: dict[float, float] = {}
    best = {}
    for lr in arguments.lrs:
        model = apply(load_model(lesson.base), rung.plan).train()
        train(model, lesson, rung, lr, arguments.epochs)
        tried[lr] = loss_over(model, lesson.chooses_lr, lesson.padding)
        print(f"{rung.name} at {lr:g}: {tried[lr]:.3f}", file=sys.stderr, flush=True)
        if tried[lr] > min(tried.values()):
            break
        best = {"loss": loss_over(model, lesson.held_out, lesson.padding), "lr": lr}
        if keep:
            save_file({n: p for n, p in model.state_dict().items() if "self_attn" in n}, keep)
    return {**best, "tried": tried}


def train(model: nn.Module, lesson: Lesson, rung: Rung, lr: float, epochs: int) -> float:
    """Seconds spent in optimizer steps, from batches that are ready."""
    schedule = Schedule(
        num_examples=len(lesson.rows), batch_size=8, epochs=epochs, max_steps=None, seed=0
    )
    rows = EncodedDataset.of(lesson.rows)
    batches: Any = MicroBatches(rows, schedule, 0, lesson.padding, rung.batching)  # pyright: ignore
    optimizer = adamw(model, lr)
    loss_of = answer_loss if rung.answers_only else loss_everywhere
    taken = 0.0
    for k in range(len(batches)):
        batch = batches[k]
        answers, _ = batch.pop("step_answer_tokens"), batch.pop("num_tokens")
        begin = time.perf_counter()
        (loss_of(model, **batch) / answers).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken += time.perf_counter() - begin
    return taken


@torch.inference_mode()
def loss_over(model: nn.Module, rows: list[EncodedExample], padding: int) -> float:
    """Mean loss of an answer token, one row at a time."""
    lost = sum(float(answer_loss(model, **without_count(pack([row], padding)))) for row in rows)
    return lost / sum(row.num_answer_tokens for row in rows)


def loss_everywhere(model: Any, input_ids: Tensor, labels: Tensor, **packed: Any) -> Tensor:
    """As usual trainers do: logits of every position, then most of them ignored."""
    hidden = model.get_decoder()(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
    logits = model.get_output_embeddings()(hidden)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum")


def scored_heads(base: Path, geometry: Geometry, task: Path) -> dict[str, HeadSet]:
    """The heads of highest PAD score between base and task model, by ratio and depth."""
    from alps.localization.engine import localize

    scores = localize(base, task, "pad", geometry=geometry)
    top_third = range(geometry.num_layers * 2 // 3, geometry.num_layers)
    ranked = {"": scores.ranking(None), ", top third": scores.ranking(top_third)}
    return {
        f"{ratio:.0%}{depth}": scores.head_set(ranking[: geometry.count(ratio)], ratio)
        for ratio in (0.1, 0.3)
        for depth, ranking in ranked.items()
    }


def default_run(data: str | None = None) -> Run:
    """The defaults of `python train.py`, or with rows of a JSON Lines file."""
    local = ["data=jsonl", f"data.path={data}", "data.max_length=512"] if data else []
    return build(compose_config(["evals=none", *local, "data.max_examples=null"]))


def embedded_rows(run: Run, count: int, split: str = "train") -> list[EncodedExample]:
    """Encoded rows of the run's data."""
    tokenizer = load_tokenizer(materialize(run.model))
    source = replace(run.data, max_examples=count)
    examples = (
        training_examples(source)
        if split == "train"
        else list(itertools.islice(run.data.examples("test"), count))
    )
    return encode(examples, tokenizer, run.data.template, run.data.max_length)[0]


def without_count(batch: dict) -> dict:
    """What the loss takes."""
    return {k: v for k, v in batch.items() if k != "num_tokens"}


def adamw(model: nn.Module, lr: float = LR) -> torch.optim.Optimizer:
    """AdamW on what trains."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, fused=True)


def _matched_rank(geometry: Geometry, heads: HeadSet) -> int:
    """LoRA's rank on q, k and v with about as many parameters as the heads have."""
    width = geometry.num_heads * geometry.head_dim
    outputs = (geometry.num_heads + 2 * geometry.num_kv_heads) * geometry.head_dim
    each = geometry.num_layers * (3 * width + outputs)
    return max(1, round(heads.qkv_share() * geometry.qkv_rows * width / each))


def print_conditions(arguments: argparse.Namespace) -> None:
    """Hardware, versions and settings, above a table."""
    given = {k: v for k, v in vars(arguments).items() if v is not None}
    shown = json.dumps({k: v for k, v in given.items() if k not in ("work", "only")}, default=str)
    print(
        f"SmolLM2-135M, float32, {platform.machine()}, {torch.get_num_threads()} threads, ", end=""
    )
    print(f"torch {torch.__version__}, transformers {version('transformers')}; {shown}\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    works: dict[str, Callable[[argparse.Namespace], None]] = {
        "steps": steps,
        "ladder": ladder,
        "compile": compiled,
    }
    parser.add_argument("work", choices=works)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mix", action="store_true", help="lengths of the embedded data")
    parser.add_argument(
        "--first", type=int, help="number of rows to measure, from the first (steps)"
    )
    parser.add_argument("--only", type=int, help="memory of this row, in this process")
    parser.add_argument("--data", help="a JSON Lines file instead of the embedded rows (ladder)")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--lrs", type=float, nargs="+", default=[3e-5, 1e-4, 3e-4, 1e-3, 3e-3], help="rates, rising"
    )
    parser.add_argument("--learned", type=Path, help="file that keeps what rungs learned (ladder)")
    arguments = parser.parse_args()
    works[arguments.work](arguments)


if __name__ == "__main__":
    main()
