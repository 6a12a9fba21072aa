"""`alps.apply` and `alps.merge` in loops that are not ours."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

import alps
from alps.heads.head_set import HeadSet
from alps.models.apply import checkpoint_activations
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model

HEADS = ((0, 1), (1, 7))


@pytest.fixture
def base(make_run):
    return materialize(make_run().model)


def head_set(base, **changes) -> HeadSet:
    return HeadSet(heads=HEADS, geometry=read_geometry(base), **changes)


def moved_rows(model, base) -> dict[str, list[int]]:
    """Rows of each tensor that differ from the base model."""
    plain = dict(load_model(base).named_parameters())
    moved = {}
    for name, parameter in model.named_parameters():
        rows = (parameter != plain[name]).reshape(len(parameter), -1).any(dim=1)
        if rows.any():
            moved[name] = rows.nonzero().flatten().tolist()
    return moved


def expected_rows() -> dict[str, list[int]]:
    """Head (0, 1) is of KV group 0, head (1, 7) of group 1; 8 rows each."""
    rows = {}
    for layer, head, group in ((0, 1, 0), (1, 7, 1)):
        prefix = f"model.layers.{layer}.self_attn."
        rows[prefix + "q_proj.weight"] = list(range(8 * head, 8 * head + 8))
        for name in ("k_proj.weight", "v_proj.weight"):
            rows[prefix + name] = list(range(8 * group, 8 * group + 8))
    return rows


def test_a_plain_loop_moves_exactly_the_chosen_rows(base):
    model = alps.apply(load_model(base), head_set(base))
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.1)
    ids = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert moved_rows(alps.merge(model), base) == expected_rows()


def test_the_trainer_of_transformers_moves_exactly_the_chosen_rows(base, tmp_path):
    model = alps.apply(load_model(base), head_set(base))
    ids = torch.randint(3, 60, (8, 12), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"), max_steps=3, per_device_train_batch_size=2,
        learning_rate=1e-2, weight_decay=0.1, report_to=[], use_cpu=True, save_strategy="no",
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
        disable_tqdm=True,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    assert moved_rows(alps.merge(model), base) == expected_rows()


def test_trl_moves_exactly_the_chosen_rows(base, tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    model = alps.apply(load_model(base), head_set(base))
    rows = Dataset.from_dict({"input_ids": [[5, 6, 7, 8, 9, 10]] * 8})
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=2, learning_rate=1e-2, report_to=[],
        use_cpu=True, save_strategy="no", bf16=False,
    )  # fmt: skip
    trl.SFTTrainer(model=model, args=arguments, train_dataset=rows).train()
    assert moved_rows(alps.merge(model), base) == expected_rows()


def test_rest_trains_moves_everything_but_the_other_rows(base):
    model = alps.apply(load_model(base), head_set(base), scope="rest_trains")
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all("self_attn" in n and n.endswith("_proj.weight") for n in frozen)


def test_the_backward_pass_ends_at_the_lowest_layer_with_a_chosen_head(base):
    """Below it no activation asks for a gradient, so autograd has nothing to do there."""
    geometry = read_geometry(base)
    model = alps.apply(load_model(base), HeadSet(heads=((1, 0),), geometry=geometry))
    asked = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda m, i, out: asked.append(out.requires_grad))
    ids = torch.randint(3, 60, (1, 6))
    model(input_ids=ids, labels=ids).loss.backward()
    assert asked == [False, True]


def test_checkpointed_layers_do_not_defeat_it(base):
    """Transformers asks the embeddings for a gradient then; that would visit every layer."""
    model = alps.apply(load_model(base), HeadSet(heads=((1, 0),), geometry=read_geometry(base)))
    checkpoint_activations(model.train())
    asked = []
    model.model.embed_tokens.register_forward_hook(lambda m, i, out: asked.append(out))
    ids = torch.randint(3, 60, (1, 6))
    model(input_ids=ids, labels=ids).loss.backward()
    assert not asked[0].requires_grad
    rows = model.model.layers[1].self_attn.q_proj.rows
    assert rows.grad is not None and rows.grad.any()


def test_a_model_without_heads_is_not_merged(base):
    model = alps.apply(load_model(base), head_set(base))
    alps.merge(model)
    with pytest.raises(ValueError, match="was merged already"):
        alps.merge(model)


def test_what_does_not_fit_is_refused(base):
    model, geometry = load_model(base), read_geometry(base)
    other = HeadSet(heads=HEADS, geometry=type(geometry)(**{**vars(geometry), "head_dim": 16}))
    with pytest.raises(
        ValueError, match=r"there is no scope=rest \(one of: heads_only, rest_trains\)"
    ):
        alps.apply(model, head_set(base), scope="rest")
    with pytest.raises(
        ValueError, match=r"there is no kv_policy=each \(one of: all, any, majority, none\)"
    ):
        alps.apply(model, head_set(base), kv_policy="each")
    with pytest.raises(ValueError, match=r"head_dim=16.*choose heads for this model"):
        alps.apply(model, other)
    alps.apply(model, head_set(base))
    with pytest.raises(ValueError, match=r"applied to this model already: alps\.merge it first"):
        alps.apply(model, head_set(base))
    with pytest.raises(ValueError, match="no layers with separate q_proj"):
        alps.apply(torch.nn.Linear(2, 2), head_set(base))
    quantized = load_model(base)
    quantized.model.layers[0].self_attn.q_proj = torch.nn.Identity()
    with pytest.raises(ValueError, match="Identity cannot be trained in part"):
        alps.apply(quantized, head_set(base))
