import pytest
import torch

from alps import scores
from alps.scores import pad


def test_a_metric_is_loaded_by_the_name_of_its_module():
    assert scores.load("pad") is pad.score


def test_every_module_is_a_metric():
    assert set(scores.names()) >= {"cosine", "euclidean", "kl", "pad"}
    assert all(callable(scores.load(name)) for name in scores.names())


@pytest.mark.parametrize("metric", scores.names())
def test_every_metric_grows_with_the_change(metric):
    generator = torch.Generator().manual_seed(0)
    base, step = torch.randn(2, 8, 4, generator=generator)
    values = [scores.load(metric)(base, base + size * step) for size in (0.0, 0.01, 0.1, 1.0)]
    assert values == sorted(values)
    assert values[0] == 0.0 < values[1]


@pytest.mark.parametrize("metric", ["pads", "__init__", "os"])
def test_an_unknown_metric_is_refused_with_those_that_exist(metric):
    with pytest.raises(ValueError, match=f"no metric '{metric}' .*{', '.join(scores.names())}"):
        scores.load(metric)
