import pytest
import torch

from alps.config.build import model_choice
from alps.data.example import Example
from alps.embedding.pooling import batches_by_length, masked_mean, mean_pooled, tokenize_texts
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer, pad_id

EXAMPLES = [
    Example(instruction="Add 2 and 3.", answer="5"),
    Example(instruction="Name a colour, any colour at all.", answer="Blue, like the sky. " * 9),
    Example(instruction="Hi", answer="Hello </s> there"),
]


@pytest.fixture(scope="module")
def tiny():
    choice = model_choice("tiny")
    assert choice is not None
    folder = materialize(choice)
    return load_model(folder).eval(), load_tokenizer(folder)


def one_by_one(model, rows: list[list[int]]) -> torch.Tensor:
    means = []
    for row in rows:
        with torch.inference_mode():
            output = model(torch.tensor([row]), output_hidden_states=True)
        states = output.hidden_states[-1][0]
        total = torch.zeros_like(states[0])
        for state in states:
            total = total + state
        means.append(total / len(row))
    return torch.stack(means)


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_the_mean_is_that_of_each_row_by_itself(tiny, batch_tokens):
    model, tokenizer = tiny
    rows = tokenize_texts(EXAMPLES, tokenizer, "alpaca", "row", 512).ids
    seen: list[tuple[int, int]] = []
    pooled = mean_pooled(
        model, rows, pad_id(tokenizer), batch_tokens, lambda *done: seen.append(done)
    )
    assert pooled.dtype == torch.float32 and pooled.shape == (3, 64)
    torch.testing.assert_close(pooled, one_by_one(model, rows), rtol=1e-4, atol=1e-5)
    assert seen[-1] == (3, 3) and len(seen) == {1: 3, 300: 3, 100_000: 1}[batch_tokens]


def test_padding_is_of_no_consequence(tiny):
    model, _ = tiny
    rows = [[5, 6, 7], [8, 9, 10, 11, 12, 13]]
    pads = [mean_pooled(model, rows, pad) for pad in (0, 77)]
    assert torch.equal(pads[0], pads[1])


def test_masked_mean_leaves_out_what_is_behind_a_row_even_infinities():
    hidden = torch.tensor([[[1.0], [3.0], [float("inf")]], [[1.0], [2.0], [6.0]]])
    assert masked_mean(hidden, torch.tensor([2, 3])).tolist() == [[2.0], [3.0]]


def test_masked_mean_adds_up_in_float32():
    hidden = torch.ones(1, 3000, 1, dtype=torch.bfloat16)
    assert masked_mean(hidden, torch.tensor([3000])).tolist() == [[1.0]]
    assert masked_mean(hidden, torch.tensor([3000])).dtype == torch.float32


def test_batches_hold_every_row_once_among_its_like_and_within_the_room():
    lengths = [7, 300, 9, 8, 120, 40, 41, 7]
    found = batches_by_length(lengths, 100)
    assert sorted(i for batch in found for i in batch) == list(range(8))
    assert [[lengths[i] for i in batch] for batch in found] == [
        [300], [120], [41, 40], [9, 8, 7, 7],
    ]  # fmt: skip
    assert batches_by_length([10] * 5, 30) == [[0, 1, 2], [3, 4]]


def test_a_row_is_embedded_as_it_is_trained(tiny):
    _, tokenizer = tiny
    for text, tail in (("row", "### Response:\nHello </s> there"), ("instruction", "Response:\n")):
        encoded = tokenize_texts(EXAMPLES, tokenizer, "alpaca", text, 512)
        ids = encoded.ids[2]
        ended = text == "row"
        assert (ids[-1] == tokenizer.eos_token_id) == ended
        assert ids.count(tokenizer.eos_token_id) == ended  # the one in the answer is text
        assert tokenizer.decode(ids[: len(ids) - ended]).endswith(tail)
        assert encoded.num_cut == 0


def test_long_rows_are_cut_and_counted(tiny):
    _, tokenizer = tiny
    whole = tokenize_texts(EXAMPLES, tokenizer, "plain", "row", 512).ids
    longest = sorted(map(len, whole))
    cut = tokenize_texts(EXAMPLES, tokenizer, "plain", "row", longest[1])
    assert cut.num_cut == 1
    assert cut.ids == [row[: longest[1]] for row in whole]
