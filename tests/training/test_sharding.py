"""One rank, two with DDP and two with FSDP: the same losses, gradients and weights."""

import json
import os
import random
import shutil
import signal
import socket
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from alps.base.atomic import write_json
from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.training.fit import fit

METHODS = [
    "alps", "kl", "euclidean", "cosine", "random", "layer_consistent", "lora", "full", "no_attn",
]  # fmt: skip
CASES = [(m, "rest_trains") for m in METHODS] + [(m, "heads_only") for m in METHODS[:6]]
"""lora, full and no_attn ignore the scope."""

SETTINGS = (
    "ratio=0.3", "optim.lr=0.01", "optim.epochs=3", "optim.clip_norm=0.3", "data.max_examples=17",
    "trainer.accelerator=cpu", "trainer.micro_batch_size=2",
)  # fmt: skip
"""17 examples in steps of 8: the last step of an epoch leaves a rank with an empty micro-batch."""

STRATEGIES = ("ddp", "fsdp")

TRAIN = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from alps.runs.folder import RunFolder
from alps.training.fit import fit

ports, *folders = sys.argv[1:]
for port, folder in zip(ports.split(","), folders, strict=True):
    os.environ["MASTER_PORT"] = port
    fit(RunFolder(Path(folder)).read_run())
    dist.destroy_process_group()
"""

GRADIENTS = """
import sys
import torch, torch.distributed as dist
from torch import nn
from alps.heads.head_set import HeadSet
from alps.methods.sampled import LayerConsistent
from alps.models.apply import apply, checkpoint_activations
from alps.models.architecture import model_geometry
from alps.models.head_linear import HeadLinear
from alps.models.loss import answer_loss
from alps.models.training_plan import TrainingPlan
from alps.training.sharding import shard
import transformers

class Loss(nn.Module):
    def __init__(self, model, chunk):
        super().__init__()
        self.model, self.chunk = model, chunk
    def forward(self, ids):
        return answer_loss(self.model, ids, ids, chunk=self.chunk) / ids.numel()

def build(family, scope, tied, checkpointing, chunk=None):
    config = getattr(transformers, f"{family}Config")(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=tied,
        attention_bias=True, attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    name = family.replace("Text", "")
    model = getattr(transformers, f"{name}ForCausalLM")(config).float()
    heads = HeadSet(geometry=model_geometry(model), heads=((0, 1), (1, 0), (2, 3)))
    model = apply(model, TrainingPlan.of_heads(heads, scope, "any"))
    for module in model.modules():
        if isinstance(module, HeadLinear):  # as far from the base's rows as they are large
            module.rows.data += module.rows.data.std() * torch.randn(module.rows.shape)
    if checkpointing:
        checkpoint_activations(model)
    return Loss(model.train(), chunk)

dist.init_process_group("gloo")
from torch.distributed.device_mesh import init_device_mesh
mesh = init_device_mesh("cpu", (2,))
ids = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(1))
for family in ("Llama", "Qwen2", "Qwen3", "Gemma3Text"):
    for scope in ("rest_trains", "heads_only"):
        for tied in (True, False):
            case = family, scope, tied, tied
            whole, sharded = build(*case), build(*case, chunk=4 if tied else 5)
            whole(ids).backward()
            shard(sharded, sharded.model, mesh, mixed=False)
            sharded(ids[dist.get_rank() :][:1]).backward()
            compared = 0
            for (name, a), b in zip(
                whole.named_parameters(), sharded.parameters(), strict=True
            ):
                assert (a.grad is None) == (b.grad is None) == (not a.requires_grad), (case, name)
                if a.grad is not None:
                    torch.testing.assert_close(b.grad.full_tensor(), a.grad, msg=f"{case} {name}")
                    compared += 1
            assert compared > 5
"""

KILLED = """
import os, signal, sys
from pathlib import Path
import torch.distributed as dist
from alps.runs.folder import RunFolder
from alps.training import checkpoint as module
from alps.training import strategies
from alps.training.fit import fit

where, step, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
write, save = strategies.write_sharded_checkpoint, module.save

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save_and_die(tensors, checkpoint_id):
    save(tensors, checkpoint_id=checkpoint_id)
    dist.barrier()
    die()

def write_checkpoint(checkpoint, path):
    here = checkpoint["global_step"] == step
    if here and where == "before":
        die()
    if here and where == "inside":
        module.save = save_and_die
    write(checkpoint, path)
    dist.barrier()
    if here:
        die()

strategies.write_sharded_checkpoint = write_checkpoint
fit(RunFolder(path).read_run())
"""

TRAFFIC = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from pytorch_lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode
from alps.runs.folder import RunFolder
from alps.training.fit import fit

def size(tensors):
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(map(size, tensors)) if isinstance(tensors, (list, tuple)) else 0

class Traffic(TorchDispatchMode):
    moved = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            self.moved += size(args[0])
        return func(*args, **(kwargs or {}))

folder = RunFolder(Path(sys.argv[1]))
with Traffic() as traffic:
    fit(folder.read_run())
(folder.path / f"moved{dist.get_rank()}.json").write_text(json.dumps(traffic.moved))
"""


@pytest.fixture(scope="session")
def on_ranks(preloaded, tmp_path_factory):
    """Runs a script on two ranks that find each other as torchrun's do; their exit codes."""

    def call(code: str, *arguments: str, port: int | None = None) -> tuple[list[int], str]:
        environment = {
            **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "TORCHELASTIC_RUN_ID": "test", "MASTER_PORT": str(port or free_ports(1)[0]),
        }  # fmt: skip
        folder = tmp_path_factory.mktemp("ranks")
        ranks = [
            preloaded.start(
                "-c", code, *arguments, cwd=folder, joined=True,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip
        output = [rank.communicate(timeout=300)[0] for rank in ranks]
        return [rank.returncode for rank in ranks], "\n".join(output)

    return call


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def trained(tmp_path_factory, on_ranks):
    """Folders of every method and scope, trained on one rank, and on two with DDP and FSDP."""
    from alps.config.build import build, compose_config

    root = tmp_path_factory.mktemp("same")
    folders = {}
    for method, scope in CASES:
        small = ["model=tiny", "evals=none", "trainer.progress=off", f"output_dir={root}/single"]
        run = build(compose_config([*small, *SETTINGS, f"method={method}", f"scope={scope}"]))
        execute(run, fit)
        folders["single", method, scope] = RunFolder(run.folder)
        for strategy in STRATEGIES:
            trainer = replace(run.trainer, devices=2, strategy=strategy)
            several = replace(run, trainer=trainer, output_dir=f"{root}/{strategy}")
            folders[strategy, method, scope] = folder = prepare(several)
            if (heads := folders["single", method, scope].read_heads()) is not None:
                write_json(folder.heads_path, heads.to_json())
    several = [f.path for (strategy, *_), f in folders.items() if strategy != "single"]
    ports = ",".join(map(str, free_ports(len(several))))
    codes, output = on_ranks(TRAIN, ports, *map(str, several))
    assert codes == [0, 0], output
    return folders


def prepare(run) -> RunFolder:
    folder = RunFolder(run.folder)
    folder.path.mkdir(parents=True)
    folder.write_run(run)
    return folder


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("method", "scope"), CASES)
def test_two_ranks_end_where_one_does(trained, strategy, method, scope):
    one, two = (trained[s, method, scope] for s in ("single", strategy))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5) and len(losses(one)) == 9
    assert losses(one)[-1] < losses(one)[0] - 0.05
    a, b = load_file(one.weights_path), load_file(two.weights_path)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=0, atol=1e-4, msg=name)
    measured = [json.loads(f.training_path.read_text()) for f in (one, two)]
    for name in ("num_trainable", "trainable_fraction", "qkv_fraction", "precision", "num_steps"):
        assert measured[0][name] == measured[1][name]


def losses(folder: RunFolder) -> list[float]:
    return [float(line["loss"]) for line in read_metrics(folder.path / "metrics.csv")]


def test_gradients_of_rows_far_from_the_base(on_ranks):
    """Also with tied and untied embeddings, norms of heads, biases, and layers computed twice."""
    codes, output = on_ranks(GRADIENTS)
    assert codes == [0, 0], output


@pytest.mark.parametrize("where", ["before", "inside", "after"])
def test_sigkill_around_a_sharded_checkpoint(make_run, trained, on_ranks, tmp_path, where):
    """Two ranks resume bitwise; one rank, or two under DDP, to rounding."""
    other = trained["fsdp", "alps", "rest_trains"]
    run = replace(other.read_run(), output_dir=str(tmp_path / "o"))
    run = replace(run, trainer=replace(run.trainer, checkpoint_every_n_steps=1))
    folder = prepare(run)
    write_json(folder.heads_path, other.read_heads().to_json())
    step = random.SystemRandom().randint(2, 8)
    codes, output = on_ranks(KILLED, where, str(step), str(folder.path))
    assert codes == [-signal.SIGKILL] * 2, output
    assert len(losses(folder)) == step and not folder.training_path.exists()

    ends = {"fsdp": (2, "fsdp", 0.0), "ddp": (2, "ddp", 1e-5), "single": (1, "ddp", 1e-5)}
    for name, (devices, strategy, tolerance) in ends.items():
        trainer = replace(run.trainer, devices=devices, strategy=strategy)
        again = replace(run, trainer=trainer, output_dir=str(tmp_path / name))
        shutil.copytree(tmp_path / "o", tmp_path / name)
        copy = RunFolder(again.folder)
        copy.write_run(again)
        if devices == 1:
            fit(again)
        else:
            codes, output = on_ranks(TRAIN, str(free_ports(1)[0]), str(copy.path))
            assert codes == [0, 0], output
        assert losses(copy) == pytest.approx(losses(other), abs=tolerance), name
        for key, tensor in load_file(other.weights_path).items():
            found = load_file(copy.weights_path)[key]
            torch.testing.assert_close(found, tensor, rtol=0, atol=10 * tolerance, msg=(name, key))
        assert not copy.checkpoint_path.parent.exists()


def test_a_checkpoint_of_one_rank_resumes_sharded(make_run, trained, on_ranks, tmp_path):
    """And is replaced by a sharded one, which is newer."""
    other = trained["fsdp", "no_attn", "rest_trains"]
    run = replace(other.read_run(), output_dir=str(tmp_path))
    one = replace(run, trainer=replace(run.trainer, devices=1, checkpoint_every_n_steps=4))
    folder = prepare(one)

    class Stop(Exception):
        pass

    class Stopper(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                raise Stop

    with pytest.raises(Stop):
        fit(one, [Stopper()])
    assert folder.checkpoint_path.is_file()
    folder.write_run(replace(run, trainer=replace(run.trainer, checkpoint_every_n_steps=1)))
    codes, output = on_ranks(KILLED, "after", "7", str(folder.path))
    assert codes == [-signal.SIGKILL] * 2, output
    assert [p.name for p in folder.checkpoint_path.parent.iterdir()] == ["step-7"]
    codes, output = on_ranks(TRAIN, str(free_ports(1)[0]), str(folder.path))
    assert codes == [0, 0], output
    assert losses(folder) == pytest.approx(losses(other), abs=1e-5)
    for key, tensor in load_file(other.weights_path).items():
        torch.testing.assert_close(load_file(folder.weights_path)[key], tensor, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["random", "lora"])
def test_only_trainable_parameters_travel_under_ddp(trained, on_ranks, tmp_path, method):
    """Once per step with its micro-batches accumulated, and nothing before the first step."""
    other = trained["ddp", method, "heads_only" if method == "random" else "rest_trains"]
    folder = prepare(replace(other.read_run(), output_dir=str(tmp_path)))
    if (heads := other.read_heads()) is not None:
        write_json(folder.heads_path, heads.to_json())
    codes, output = on_ranks(TRAFFIC, str(folder.path))
    assert codes == [0, 0], output
    measured = json.loads(folder.training_path.read_text())
    gradients = measured["num_steps"] * measured["num_trainable"] * 4
    for rank in range(2):
        moved = json.loads((folder.path / f"moved{rank}.json").read_text())
        assert gradients <= moved < gradients + 1000 * measured["num_steps"], moved / gradients


def test_sharded_matrices_round_as_autocast_does(trained, on_ranks, tmp_path):
    """The first loss under bf16-mixed; norms and embeddings stay in float32 in both."""
    found = []
    for strategy, devices in (("single", 1), ("fsdp", 2)):
        other = trained["fsdp", "full", "rest_trains"].read_run()
        run = replace(other, output_dir=str(tmp_path / strategy))
        optim = replace(run.optim, precision="bf16-mixed", max_steps=2)
        trainer = replace(run.trainer, devices=devices, micro_batch_size=4)
        folder = prepare(replace(run, optim=optim, trainer=trainer))
        if devices == 1:
            fit(folder.read_run())
        else:
            codes, output = on_ranks(TRAIN, str(free_ports(1)[0]), str(folder.path))
            assert codes == [0, 0], output
        measured = json.loads(folder.training_path.read_text())
        assert measured["precision"] == "bf16-mixed"
        assert all(t.dtype == torch.float32 for t in load_file(folder.weights_path).values())
        found.append(losses(folder))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["optim.precision=16-mixed"], "no fp16: set optim.precision=bf16-mixed"),
        (["optim.frozen_dtype=nf4", "scope=heads_only"], "shards no 4-bit weights"),
    ],
)
def test_what_cannot_be_sharded_is_refused(make_run, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_run("trainer=fsdp", *settings)
