import pytest
import torch

from alps.evals.engine.shared_prefix import (
    SharedPrefix,
    expanded_cache,
    padded_right,
    padding_after_prefix,
)
from alps.models.checkpoint import materialize
from alps.models.load import load_model


@pytest.fixture
def model(make_run):
    return load_model(materialize(make_run().model)).eval()


def rows_of(*tails: list[int], shared: int = 40) -> torch.Tensor:
    torch.manual_seed(0)
    beginning = torch.randint(1, 90, (shared,)).tolist()
    return torch.tensor([beginning + tail for tail in tails])


def test_logits_behind_a_prefix_are_those_of_whole_rows(model):
    rows = rows_of([1, 2, 3], [4, 5, 6], [4, 7, 8])
    prefix = SharedPrefix(model).find(rows, 42)
    assert prefix is not None and len(prefix.ids) == 40
    with torch.no_grad():
        whole = model(rows).logits[:, 40:]
        rest = model(rows[:, 40:], past_key_values=expanded_cache(prefix, 3, 43)).logits
    torch.testing.assert_close(rest, whole, atol=1e-5, rtol=1e-5)


def test_the_next_batch_finds_it_there(model, monkeypatch):
    shared = SharedPrefix(model)
    first = shared.find(rows_of([1, 2], [3, 4]), 41)
    monkeypatch.setattr(model, "forward", None)  # nothing is computed again
    second = shared.find(rows_of([5, 6], [5, 7]), 41)
    assert second.cache is first.cache and len(second.ids) == 40
    assert shared.find(rows_of([5, 6]), 41) is not None, "a single row takes what is there"


def test_what_only_one_row_shares_with_the_last_batch_is_no_prefix(model):
    shared = SharedPrefix(model)
    shared.find(rows_of([1, 2], [1, 3], shared=60), 61)
    rows = rows_of([1, 1], [2, 2], shared=60)
    rows[1, 40] = 99  # the first row goes on as before, the second does not
    prefix = shared.find(rows, 61)
    assert len(prefix.ids) == 40 and prefix.ids.equal(rows[0, :40])


def test_a_much_longer_prefix_is_worth_computing(model):
    shared = SharedPrefix(model)
    shared.find(rows_of([91, 1], [92, 1], shared=40), 41)
    rows = rows_of([1, 1], [2, 2], shared=80)
    rows[:, :40] = rows_of([1], shared=40)[0, :40]
    assert len(shared.find(rows, 81).ids) == 80


def test_using_a_prefix_does_not_change_it(model):
    rows = rows_of([1, 2], [3, 4])
    prefix = SharedPrefix(model).find(rows, 41)
    cache = expanded_cache(prefix, 2, 41)
    with torch.no_grad():
        model(rows[:, 40:], past_key_values=cache)
    assert cache.get_seq_length() == 42 and prefix.cache.get_seq_length() == 40


@pytest.mark.parametrize(
    "rows, longest",
    [
        (rows_of([1], [2], shared=20), 20),  # too short
        (rows_of([1, 1]), 41),  # nobody shares
        (rows_of([1, 1], [1, 2]), 10),  # something else begins early
    ],
)
def test_no_prefix_where_it_does_not_pay(model, rows, longest):
    assert SharedPrefix(model).find(rows, longest) is None


def test_every_row_goes_on_behind_the_prefix(model):
    rows = rows_of([1, 1], [1, 1])
    assert len(SharedPrefix(model).find(rows, 41).ids) == 41


def test_layers_that_forget_have_none(model):
    model.config.sliding_window = 16
    assert SharedPrefix(model).find(rows_of([1], [2]), 40) is None


def test_padding_moves_behind_the_prefix():
    ids = torch.tensor([[9, 9, 1, 2, 3], [1, 2, 4, 5, 6]])  # 9 is padding
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    moved, shortest = padded_right(ids, mask)
    assert moved[:, :3].tolist() == [[1, 2, 3], [1, 2, 4]] and shortest == 3
    ordered, kept = padding_after_prefix(ids, mask, 2)
    assert ordered[kept].tolist() == [1, 2, 3, 1, 2, 4, 5, 6]
    assert ordered[:, :2].tolist() == [[1, 2], [1, 2]] and ordered[0, -1] == 3
    assert kept.tolist() == [[True, True, False, False, True], [True] * 5]
