import pytest
import torch
from transformers import DynamicCache

from alps.evals.engine.kv_cache import PreallocatedLayer, preallocated_cache
from alps.models.checkpoint import materialize
from alps.models.load import load_model


@pytest.mark.parametrize("room", [1, 7, 30])
def test_it_holds_what_transformers_own_holds(room):
    ours, theirs = preallocated_cache(2, room), DynamicCache()
    torch.manual_seed(0)
    for tokens in (5, 1, 1, 4):
        for layer in range(2):
            keys, values = torch.randn(3, 2, tokens, 4), torch.randn(3, 2, tokens, 6)
            found, expected = (c.update(keys, values, layer) for c in (ours, theirs))
            assert all(a.equal(b) for a, b in zip(found, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(3, 0) == theirs.get_mask_sizes(3, 0)


def test_room_that_was_taken_is_not_taken_again():
    layer = PreallocatedLayer(8)
    places = set()
    for _ in range(8):
        keys, _ = layer.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        places.add(keys.data_ptr())
    assert len(places) == 1


def test_a_model_generates_the_same(make_run):
    model = load_model(materialize(make_run().model)).eval()
    ids = torch.randint(1, 90, (3, 9))
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(ids, **settings)
    cache = preallocated_cache(model.config.num_hidden_layers, 17)
    assert model.generate(ids, past_key_values=cache, **settings).equal(expected)
