import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from alps.cost.memory import (
    HEAP_BLOCK_BYTES,
    HEAP_SHARE,
    PROGRAM_BYTES,
    Memory,
    _Gathered,
    peak_memory,
)
from alps.cost.micro_batch import largest_micro_batch
from alps.cost.shape import ModelShape
from alps.cost.storage import Storage
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.models import packed_attention
from alps.models.apply import apply
from alps.models.loss import IGNORE, answer_loss
from alps.models.training_plan import LoraShape, TrainingPlan
from alps.training.sharding import shard

ROWS, LENGTH, ANSWERS = 3, 64, 24
NUM_TOKENS, NUM_ANSWERS = ROWS * LENGTH, ROWS * ANSWERS
FULL = TrainingPlan(qkv="all", rest=True)
MIXED = Storage(activation_bytes=2)
NAMES = ["full", "no_attn", "rest_trains", "heads_only", "heads_only, top", "lora", "lora below"]


@dataclass
class Subject:
    """A model under a plan, and what is to be predicted of it."""

    model: torch.nn.Module
    shape: ModelShape
    plan: TrainingPlan


@pytest.fixture
def subject(tmp_path):
    """Makes small models that differ in all widths, or two layers of the default model."""

    def make(name: str, kind: str = "llama", like_default: bool = False, tied: bool = True):
        layers, heads, groups, dim = (2, 9, 3, 64) if like_default else (3, 6, 2, 16)
        config = AutoConfig.for_model(
            kind, vocab_size=3000, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=groups, head_dim=dim, hidden_size=heads * dim,
            intermediate_size=1536 if like_default else 160, tie_word_embeddings=tied,
        )  # fmt: skip
        config.save_pretrained(tmp_path)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
        shape = ModelShape.read(tmp_path)
        plan = plan_of(name, shape.geometry)
        return Subject(apply(model, plan), shape, plan)

    return make


def plan_of(name: str, geometry: Geometry) -> TrainingPlan:
    top = geometry.num_layers - 1
    if name.startswith("lora"):
        targets = ("k_proj", "o_proj", "down_proj") if "below" in name else ("q_proj", "v_proj")
        return TrainingPlan(
            qkv="none", rest=False, lora=LoraShape(rank=4, alpha=4, targets=targets)
        )
    if name in ("full", "no_attn"):
        return replace(FULL, qkv="all" if name == "full" else "none")
    chosen = ((top, 1),) if "top" in name else ((0, 1), (top, 0), (top, 3))
    heads = HeadSet(heads=chosen, geometry=geometry)
    return TrainingPlan(qkv="heads", rest=name == "rest_trains", heads=heads)


class Living(TorchDispatchMode):
    """Bytes of all tensors alive besides the parameters, now and at most."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.parameters = {p.untyped_storage()._cdata for p in model.parameters()}
        self.living, self.peak = {}, 0
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
                self.watch(parameter.grad)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.watch(leaf)
        self.peak = max(self.peak, self.now())
        return result

    def watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.parameters:
            self.living[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())

    def now(self) -> int:
        self.living = {k: v for k, v in self.living.items() if not v[0].expired()}
        return sum(size for _, size in self.living.values())


def loss_of(model, mixed: bool = False, answers: int = ANSWERS, rows: int = ROWS) -> torch.Tensor:
    torch.manual_seed(0)
    ids = torch.randint(3000, (rows, LENGTH))
    labels = ids.clone()
    labels[:, :-answers] = IGNORE
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        return answer_loss(model, ids, labels)


def packed_loss(model) -> torch.Tensor:
    """The same rows, concatenated."""
    ids = torch.randint(3000, (1, ROWS * LENGTH))
    labels = ids.clone().view(ROWS, LENGTH)
    labels[:, :-ANSWERS] = IGNORE
    positions = torch.arange(LENGTH).repeat(ROWS)[None]
    return answer_loss(model, ids, labels.view(1, -1), positions, [LENGTH] * ROWS)


def saved_bytes(model, mixed: bool) -> int:
    return bytes_saved_by(model, lambda: loss_of(model, mixed))


def bytes_saved_by(model, loss: Callable[[], torch.Tensor]) -> int:
    """What autograd keeps for the backward pass, parameters apart; each storage once."""
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(s.nbytes() for key, s in saved.items() if key not in parameters)


def weight_copies(subject: Subject, storage: Storage) -> int:
    """Bytes by which the weights grow under mixed precision."""
    of = [peak_memory(subject.shape, subject.plan, 0, 0, s).weights for s in (storage, Storage())]
    return of[0] - of[1]


def kept(subject: Subject, storage: Storage) -> int:
    """What should be alive for the backward pass: activations, copies, log-probabilities."""
    memory = peak_memory(subject.shape, subject.plan, NUM_TOKENS, NUM_ANSWERS, storage)
    log_probabilities = 4 * NUM_ANSWERS * subject.shape.vocab
    return memory.activations + weight_copies(subject, storage) + log_probabilities


@pytest.mark.parametrize("storage", [Storage(), MIXED], ids=["full precision", "mixed"])
@pytest.mark.parametrize("like_default", [False, True], ids=["small", "like the default model"])
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_what_autograd_keeps(subject, name, like_default, storage):
    it = subject(name, like_default=like_default)
    assert kept(it, storage) == pytest.approx(saved_bytes(it.model, storage.mixed), rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_packed_examples_keep_their_concatenated_outputs(subject, name):
    it = subject(name)
    it.model.set_attn_implementation(packed_attention.NAME)
    loss = partial(packed_loss, it.model)
    assert kept(it, Storage(joined=True)) == pytest.approx(bytes_saved_by(it.model, loss), rel=0.03)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("name", ["full", "heads_only", "lora"])
def test_other_architectures_keep_as_much(subject, name, kind):
    it = subject(name, kind)
    assert kept(it, Storage()) == pytest.approx(saved_bytes(it.model, False), rel=0.03)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("answers", [ANSWERS, 1], ids=["many answers", "few answers"])
@pytest.mark.parametrize("name", NAMES)
def test_the_peak_of_a_step_is_the_predicted_one(subject, name, answers, tied):
    it = subject(name, tied=tied)
    with Living(it.model) as living:
        loss_of(it.model, answers=answers).backward()
    memory = peak_memory(it.shape, it.plan, NUM_TOKENS, ROWS * answers)
    predicted = memory.gradients + memory.activations + memory.working
    assert predicted == pytest.approx(living.peak, rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_one_short_row_peaks_at_the_gradient_of_the_embedding(subject, tied):
    it = subject("full", like_default=True, tied=tied)
    with Living(it.model) as living:
        loss_of(it.model, answers=1, rows=1).backward()
    memory = peak_memory(it.shape, it.plan, LENGTH, 1)
    predicted = memory.gradients + memory.activations + memory.working
    assert predicted == pytest.approx(living.peak, rel=0.02)


@pytest.mark.parametrize("storage", [Storage(), MIXED], ids=["full precision", "mixed"])
@pytest.mark.parametrize("name", ["full", "heads_only", "heads_only, top", "lora"])
def test_the_peak_under_checkpointing_is_predicted(subject, name, storage):
    storage = replace(storage, checkpointing=True)
    it = subject(name, like_default=True)
    lm = it.model.get_base_model() if name == "lora" else it.model
    lm.activation_checkpointing_enable({"use_reentrant": False})
    lm.disable_input_require_grads()  # with it, nothing would stop at the lowest trainable layer
    with Living(it.model) as living:
        loss_of(it.model, storage.mixed).backward()
    memory = peak_memory(it.shape, it.plan, NUM_TOKENS, NUM_ANSWERS, storage)
    predicted = memory.total - memory.optimizer - peak_memory(it.shape, it.plan, 0, 0).weights
    assert predicted == pytest.approx(living.peak, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_weights_gradients_and_optimizer_are_those_of_the_model(subject, name):
    it = subject(name)
    storage = Storage(frozen_bytes=2, activation_bytes=2)
    memory = peak_memory(it.shape, it.plan, 0, 0, storage)
    sizes = [(p.numel(), p.requires_grad) for p in it.model.parameters()]
    trainable = sum(n for n, trains in sizes if trains)
    frozen = sum(n for n, trains in sizes if not trains)
    assert memory.gradients == 4 * trainable
    assert memory.optimizer == 8 * trainable
    copied = memory.weights - 4 * trainable - 2 * frozen
    assert copied == 2 * copied_parameters(it.model)


def copied_parameters(model) -> int:
    """Float32 matrices that multiply: embeddings do as output layer, biases and norms don't."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.ndim == 2]
    return sum(p.numel() for n, p in named if not n.endswith(".rows"))


def test_the_largest_micro_batch_fits_and_one_more_row_does_not(subject):
    it = subject("heads_only")
    for budget in (5_000_000, 20_000_000, 123_456_789):
        rows = largest_micro_batch(it.shape, it.plan, LENGTH, 0.3, budget)
        fits, too_large = (
            peak_memory(it.shape, it.plan, n * LENGTH, -(-3 * n * LENGTH // 10)).total
            for n in (rows, rows + 1)
        )
        assert rows >= 1
        assert fits <= budget < too_large


def test_what_trains_less_fits_more_rows(subject):
    shape = subject("full").shape
    storages = [Storage(), Storage(checkpointing=True)]
    of = {
        name: [
            largest_micro_batch(shape, plan_of(name, shape.geometry), 64, 0.3, 30_000_000, storage)
            for storage in storages
        ]
        for name in NAMES
    }
    assert of["full"][0] < of["heads_only"][0] < of["heads_only, top"][0]
    assert all(plain < checkpointed for plain, checkpointed in of.values())


def test_a_row_that_does_not_fit_names_what_to_change(subject):
    it = subject("full")
    with pytest.raises(
        ValueError, match=r"^one row of 2000000 tokens needs .* there are 1.0: a sm"
    ):
        largest_micro_batch(it.shape, it.plan, 2_000_000, 0.5, 2**30)
    says = "weights, gradients and optimizer need 0.0 GiB of memory, but there are 0.0: scope="
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        largest_micro_batch(it.shape, it.plan, 64, 0.5, 1000)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["full", "rest_trains", "heads_only"])
def test_fsdp_gathers_what_its_groups_hold(subject, name, tied, mixed):
    """The groups of `shard`, in a process group of two ranks that never meet."""
    it, storage = subject(name, tied=tied), Storage(shards=2, activation_bytes=4 - 2 * mixed)
    root = torch.nn.Sequential(it.model)
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        shard(root, it.model, init_device_mesh("cpu", (2,)), mixed)
        groups = [group_bytes(m) for m in it.model.model.layers.modules() if is_group(m)]
        rest = group_bytes(root) if tied else group_bytes(it.model.lm_head)
    finally:
        dist.destroy_process_group()
    found = _Gathered.of(it.shape, it.plan, storage)
    assert found.layer == pytest.approx(max(groups), rel=0.05)
    copy = 2 * it.shape.vocab * it.shape.hidden * (tied and mixed)  # of autocast
    assert found.root - copy == pytest.approx(rest, rel=0.01)


def is_group(module: torch.nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def group_bytes(module: torch.nn.Module) -> int:
    """Bytes that are gathered together with a module."""
    (group,) = module._get_fsdp_state()._fsdp_param_groups  # pyright: ignore
    size = group.mp_policy.param_dtype.itemsize if group.mp_policy.param_dtype else 4
    return sum(p._orig_size.numel() for p in group.fsdp_params) * size


def test_fsdp_shares_states_and_holds_gradients_until_they_are_reduced(subject):
    it = subject("full")
    one, half = (
        peak_memory(it.shape, it.plan, NUM_TOKENS, NUM_ANSWERS, Storage(shards=n)) for n in (1, 2)
    )
    for of in ("weights", "gradients", "optimizer"):
        assert getattr(half, of) == pytest.approx(getattr(one, of) / 2, abs=8)
    assert half.activations == one.activations
    gathered = _Gathered.of(it.shape, it.plan, Storage(shards=2))
    assert half.working >= one.working + gathered.root + 2 * gathered.layer
    assert gathered.root_gradients == 4 * it.shape.vocab * it.shape.hidden
    frozen = _Gathered.of(it.shape, plan_of("heads_only", it.shape.geometry), Storage(shards=2))
    assert frozen.root_gradients == 0 and frozen.layer_gradients < gathered.layer_gradients / 5


def test_ddp_allocates_its_buckets_twice_once(subject):
    """Before the second step, when no activations are there."""
    it = subject("full", tied=False)

    def totals(tokens: int) -> list[int]:
        return [peak_memory(it.shape, it.plan, tokens, 1, Storage(buckets=b)).total for b in (0, 1)]

    alone, ddp = totals(1)
    memory = peak_memory(it.shape, it.plan, 1, 1)
    new = 2 * memory.gradients + memory.weights + memory.optimizer
    assert alone < ddp == pytest.approx(new, rel=0.001)
    alone, ddp = totals(5000)  # activations need more
    assert alone == ddp


def test_resident_memory_has_the_program_and_free_blocks_of_the_heap(subject):
    it, resident = subject("full"), Storage(resident=True)

    def memory(tokens: int, storage: Storage) -> Memory:
        return peak_memory(it.shape, it.plan, tokens, 1, storage)

    plain, found = memory(NUM_TOKENS, Storage()), memory(NUM_TOKENS, resident)
    assert plain.program == plain.heap == 0
    assert found.program == PROGRAM_BYTES
    assert found.heap == pytest.approx(HEAP_SHARE * found.activations, rel=0.05)
    assert found.total == plain.total + found.program + found.heap
    sharded = memory(NUM_TOKENS, replace(resident, shards=2))
    assert sharded.heap > 1.5 * found.heap  # gathered layers come and go
    wide = HEAP_BLOCK_BYTES // (4 * it.shape.intermediate) + 1
    assert memory(wide, resident).heap < 0.8 * memory(wide - 1, resident).heap
    assert memory(HEAP_BLOCK_BYTES // (4 * it.shape.hidden) + 1, resident).heap == 0


def test_a_loss_in_chunks_needs_the_logits_of_one(subject):
    it = subject("heads_only")
    whole, parts, few = (
        peak_memory(it.shape, it.plan, 10, answers, Storage(loss_chunk=chunk))
        for answers, chunk in ((1000, None), (1000, 10), (10, None))
    )
    assert parts.working == few.working < whole.working / 50
