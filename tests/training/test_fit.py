import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from alps.base.atomic import write_json
from alps.execute import choose_heads, execute
from alps.models.apply import merge
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.runs.result import Result, RunFailed
from alps.settings.infrastructure import Trainer
from alps.training.fit import deviations, fit
from alps.training.restore import restore, scorable_checkpoint

METHODS = [
    "alps", "kl", "euclidean", "cosine", "random", "layer_consistent", "lora", "full", "no_attn",
]  # fmt: skip


CASES = [(m, "rest_trains") for m in METHODS] + [(m, "heads_only") for m in METHODS[:6]]
"""lora, full and no_attn ignore the scope."""


def trained_rows(run) -> set[tuple[str, int]]:
    """(name, row) of every row of q, k and v that the method may move."""
    heads = RunFolder(run.folder).read_heads()
    rows = set()
    for layer, chosen in heads.by_layer().items():
        geometry = heads.geometry
        kv = geometry.kv_rows(chosen, run.method.kv_policy)
        for name, indices in zip("qkv", (geometry.query_rows(chosen), kv, kv), strict=True):
            rows |= {(f"model.layers.{layer}.self_attn.{name}_proj.weight", i) for i in indices}
    return rows


@pytest.mark.parametrize(("method", "scope"), CASES)
def test_frozen_rows_are_bit_equal_and_the_others_move(make_trained, method, scope):
    run = make_trained(f"method={method}", f"scope={scope}", "optim.weight_decay=0.1", "ratio=0.2")
    before = load_model(materialize(run.model)).state_dict()
    after = merge(restore(run)).state_dict()
    assert after.keys() == before.keys()
    head_method = hasattr(run.method, "ratio")
    movable = trained_rows(run) if head_method else set()
    for name, start in before.items():
        is_qkv = name.split(".")[-2] in ("q_proj", "k_proj", "v_proj")
        if not is_qkv:
            moves = method in ("full", "no_attn") or (head_method and scope == "rest_trains")
            assert torch.equal(start, after[name]) != moves, name
            continue
        for row in range(len(start)):
            moves = method in ("full", "lora") or (name, row) in movable
            assert torch.equal(start[row], after[name][row]) != moves, (name, row)
    qkv = [w for n, w in before.items() if n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")]
    adapters = sum(run.method.rank * sum(w.shape) for w in qkv) if method == "lora" else 0
    whole, moved = sum(w.numel() for w in qkv), len(movable) * qkv[0].shape[1]
    expected = {"full": whole, "lora": adapters}.get(method, moved) / whole
    measured = json.loads(RunFolder(run.folder).training_path.read_text())
    assert measured["qkv_fraction"] == pytest.approx(expected)


def test_the_loss_is_the_mean_over_the_steps_answer_tokens(make_run):
    """However the step is cut into micro-batches, an unfused reference gives the same weights."""
    ends = []
    for micro in (8, 3, 1):
        run = make_run(f"trainer.micro_batch_size={micro}", f"output_dir=o{micro}", "method=full")
        fit_in_folder(run)
        ends.append(load_file(RunFolder(run.folder).weights_path))
    for other in ends[1:]:
        for name, tensor in ends[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=2e-6)


def test_training_equals_a_plain_loop(make_run):
    """Ten lines of plain PyTorch end in the same weights."""
    from alps.data.encoding.encode import encode
    from alps.data.subset import training_examples
    from alps.models.load import load_tokenizer
    from alps.training.fit import step_schedule
    from alps.training.optimizer import build_optimizer, build_schedule

    run = make_run("method=full", "trainer.micro_batch_size=4")
    base = materialize(run.model)
    rows, _ = encode(training_examples(run.data), load_tokenizer(base), "alpaca", 512)
    schedule = step_schedule(run, len(rows), 4)
    model = load_model(base)
    optimizer = build_optimizer(model.parameters(), run.optim, fused=True)
    rate = build_schedule(optimizer, run.optim, schedule.num_steps)
    for step in range(schedule.num_steps):
        members = [rows[i] for i in schedule.examples(step)]
        total = sum(r.num_answer_tokens for r in members)
        for row in members:
            logits = model(torch.tensor([row.ids])).logits[0, row.answer_start - 1 : -1]
            target = torch.tensor(row.ids[row.answer_start :])
            (torch.nn.functional.cross_entropy(logits, target, reduction="sum") / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    fit_in_folder(run)
    found = load_file(RunFolder(run.folder).weights_path)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=1e-4, atol=2e-6)


def test_no_row_that_trains_is_longer_than_the_models_context(make_run, monkeypatch):
    from alps.training import fit as module

    seen = []
    built = module.build_loader
    monkeypatch.setattr(
        module, "build_loader", lambda rows, *a: seen.append(rows) or built(rows, *a)
    )
    run = make_run("method=no_attn", "model.random.max_position_embeddings=280")
    fit_in_folder(run)
    (rows,) = seen
    assert rows.lengths.max() == 280 and rows.num_truncated
    stored = json.loads(RunFolder(run.folder).training_path.read_text())
    assert stored["num_truncated"] == rows.num_truncated


def test_metrics_and_measurements(make_run):
    run = make_run("method=no_attn", "optim.epochs=2")
    fit_in_folder(run)
    folder = RunFolder(run.folder)
    lines = read_metrics(folder.path / "metrics.csv")
    assert [int(line["step"]) for line in lines] == [1, 2, 3, 4, 5, 6]
    assert float(lines[-1]["loss"]) < float(lines[0]["loss"])
    measured = json.loads(folder.training_path.read_text())
    assert measured["num_steps"] == 6 and measured["num_examples"] == 24
    assert (measured["num_dropped"], measured["dropped"], measured["num_truncated"]) == (0, {}, 0)
    assert measured["final_train_loss"] == pytest.approx(float(lines[-1]["loss"]))
    assert measured["precision"] == "32-true"
    assert measured["peak_memory_bytes"] > 50e6
    assert not folder.checkpoint_path.exists()


def test_rows_that_were_cut_or_left_out_are_in_the_result(make_run):
    run = make_run("method=full", "data.max_length=250", "optim.max_steps=1")
    result = execute(run, fit)
    assert result.num_truncated and result.num_dropped
    assert result.dropped == {"too long": result.num_dropped}
    assert result.num_examples + result.num_dropped == 24
    assert Result.read(RunFolder(run.folder).result_path) == result


def test_the_precision_that_really_ran_is_recorded(make_run):
    """Lightning turns fp16 into bf16 on CPU without a word."""
    run = make_run("method=full", "optim.precision=16-mixed", "optim.max_steps=1")
    fit_in_folder(run)
    measured = json.loads(RunFolder(run.folder).training_path.read_text())
    assert measured["precision"] == "bf16-mixed"
    assert measured["deviations"] == ["precision 16-mixed was asked, bf16-mixed ran"]


@pytest.mark.parametrize(
    ("settings", "sharded"),
    [
        (["method=full"], True),
        (["method=alps"], True),
        (["method=no_attn"], True),
        (["method=alps", "scope=heads_only"], False),
        (["method=lora"], False),
        (["method=full", "trainer.strategy=ddp"], False),
        (["method=lora", "trainer=fsdp"], True),
    ],
)
def test_8b_is_sharded_where_more_than_heads_train_and_bf16_in_all_its_rows(
    make_run, settings, sharded
):
    run = make_run("model=llama3_1_8b", "optim=paper", *settings)
    assert run.sharded == sharded and run.precision == "bf16-mixed"
    assert make_run("model=llama3_1_8b", "optim=mini", *settings).precision == "auto"
    assert run.key == replace(run, trainer=Trainer(strategy="ddp")).key
    reason = "models sharded over devices have no fp16"
    assert deviations(run, run.precision) == [
        f"precision 16-mixed was asked, bf16-mixed ran: {reason}"
    ]


def test_models_of_one_device_keep_their_precision(make_run):
    run = make_run("model=llama3_2_3b", "optim=paper", "method=full")
    assert not run.sharded and run.precision == "16-mixed"


def test_a_loss_that_is_not_a_number_stops_the_run(make_run):
    run = make_run("method=full", "optim.lr=1e30", "optim.clip_norm=null")
    with pytest.raises(RunFailed, match=r"the loss became nan at step .* lower optim.lr"):
        execute(run, fit)
    status = RunFolder(run.folder).status()
    assert status["state"] == "failed" and "loss became nan" in status["reason"]
    assert not RunFolder(run.folder).result_path.exists()


def test_a_last_step_that_ruins_the_weights_is_noticed(make_run):
    run = make_run("method=full", "optim.lr=1e39", "optim.clip_norm=null", "optim.max_steps=1")
    with pytest.raises(RunFailed, match="weights that are not numbers"):
        execute(run, fit)
    assert not RunFolder(run.folder).weights_path.exists()


@pytest.mark.parametrize("method", ["lora", "random"])
def test_a_task_model_that_trained_a_part_can_be_scored(make_run, method):
    run = make_run(f"method={method}", "scope=heads_only", "ratio=0.2")
    execute(run, fit)
    stored = load_file(scorable_checkpoint(run))
    merged = merge(restore(run)).state_dict()
    assert len(stored) == 6
    assert all(torch.equal(tensor, merged[name]) for name, tensor in stored.items())


def fit_in_folder(run) -> None:
    folder = RunFolder(run.folder)
    folder.write_run(run)
    heads = choose_heads(run, fit)
    if heads is not None:
        write_json(folder.heads_path, heads.to_json())
    fit(run)


def test_lightning_is_quiet_and_its_log_level_is_given_back(make_run, caplog):
    caplog.set_level(logging.INFO, logger="pytorch_lightning")
    execute(make_run("method=full", "optim.max_steps=1"), fit)
    assert not [r for r in caplog.records if r.name.startswith("pytorch_lightning")]
    assert logging.getLogger("pytorch_lightning").level == logging.INFO
