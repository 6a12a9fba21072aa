import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from alps.data.batches import pack, pad
from alps.data.encoding.encode import EncodedExample
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.models.loss import answer_loss
from alps.models.packed_attention import NAME

ROWS = [
    EncodedExample([5, 6, 7, 8, 9], 2),
    EncodedExample([10, 11, 12], 1),
    EncodedExample([3] * 9, 8),
]


@pytest.fixture
def model(make_run):
    return load_model(materialize(make_run().model))


def test_it_is_the_sum_over_answer_tokens_of_separate_rows(model):
    batch = pad(ROWS, pad_id=2)
    naive = 0.0
    for row in ROWS:
        logits = model(torch.tensor([row.ids])).logits[0]
        for position in range(row.answer_start, len(row.ids)):
            naive += F.cross_entropy(logits[position - 1], torch.tensor(row.ids[position])).item()
    assert answer_loss(model, batch["input_ids"], batch["labels"]).item() == pytest.approx(naive)


def test_a_batch_without_answers_gives_zero_with_a_gradient(model):
    batch = pad([], pad_id=2)
    loss = answer_loss(model, batch["input_ids"], batch["labels"])
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma3_text"])
def test_packed_samples_never_see_each_other(kind):
    """Loss and every gradient are those of separate samples, to float32 rounding."""
    model = tiny(kind)
    separate = torch.zeros(())
    for row in ROWS:
        batch = pad([row], pad_id=2)
        separate = separate + answer_loss(model, batch["input_ids"], batch["labels"])
    separate.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    batch = pack(ROWS, pad_id=2)
    del batch["num_tokens"]
    packed = answer_loss(model, **batch)
    packed.backward()
    assert packed.item() == pytest.approx(separate.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5)


def test_without_lengths_packed_samples_would_leak():
    model = tiny("llama")
    batch = pack(ROWS, pad_id=2)
    right = answer_loss(
        model, *(batch[n] for n in ("input_ids", "labels", "position_ids")), [5, 3, 9]
    )
    leaking = answer_loss(model, batch["input_ids"], batch["labels"])
    assert abs(leaking.item() - right.item()) > 1e-3


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
@pytest.mark.parametrize("length", [5, 6, 9])
def test_a_sample_longer_than_the_sliding_window_is_windowed(length, kind):
    """As transformers' eager attention computes each sample alone, with a window of 4 tokens.

    Tokens differ: attention over equal values is the same whatever it sees.
    """
    samples = [
        EncodedExample([5, 6, 7], 2),
        EncodedExample(list(range(20, 20 + length)), length - 1),
    ]
    model = tiny(kind, sliding_window=4)
    losses = {}
    for window in (4, None):
        eager = tiny(kind, sliding_window=window or 99, attention="eager")
        eager.load_state_dict(model.state_dict())
        losses[window] = 0.0
        for sample in samples:
            logits = eager(torch.tensor([sample.ids])).logits[0, -2]
            losses[window] += F.cross_entropy(logits, torch.tensor(sample.ids[-1])).item()
    batch = pack(samples, pad_id=2)
    del batch["num_tokens"]
    assert answer_loss(model, **batch).item() == pytest.approx(losses[4], rel=1e-5)
    assert (abs(losses[4] - losses[None]) > 1e-3) == (length > 5), "the window makes a difference"


def test_capped_logits_are_those_of_the_model():
    model = tiny("gemma3_text", final_logit_softcapping=0.1)
    batch = pad(ROWS, pad_id=2)
    targets = batch["labels"][:, 1:]
    logits = model(batch["input_ids"]).logits[:, :-1][targets >= 0]
    wanted = F.cross_entropy(logits, targets[targets >= 0], reduction="sum")
    found = answer_loss(model, batch["input_ids"], batch["labels"])
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_loss_of_half_precision_logits_is_a_float32_sum(model):
    model.bfloat16()
    batch = pad(ROWS, pad_id=2)
    found = answer_loss(model, batch["input_ids"], batch["labels"])
    targets = batch["labels"][:, 1:]
    logits = model(batch["input_ids"]).logits[:, :-1][targets >= 0]
    wanted = F.cross_entropy(logits.float(), targets[targets >= 0], reduction="sum")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


def test_checkpointed_layers_recompute_the_same(model):
    batch = pack(ROWS, pad_id=2)
    del batch["num_tokens"]
    answer_loss(model, **batch).backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    answer_loss(model, **batch).backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, plain[name])


def tiny(kind: str, attention: str = NAME, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": 60,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **{**shape, **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 3, 11, 100])
def test_chunks_of_answers_give_the_same_loss_and_gradients(model, chunk, dtype):
    batch = pad(ROWS, pad_id=2)
    ends = []
    for size in (None, chunk):
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = answer_loss(model, batch["input_ids"], batch["labels"], chunk=size)
        loss.backward()
        ends.append((loss, {n: p.grad.clone() for n, p in model.named_parameters()}))
    assert ends[1][0].dtype == torch.float32
    torch.testing.assert_close(ends[1][0], ends[0][0])
    tolerance = {} if dtype is None else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(ends[1][1], ends[0][1], **tolerance)
