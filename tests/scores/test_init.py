import math
import re
from pathlib import Path

import numpy as np
import pytest

from alps import scores
from alps.heads.head_pair import HeadPair
from alps.scores import (
    cosine,
    default_options,
    euclidean,
    kl,
    non_default_options,
    option_problems,
    pad,
)


def test_a_metric_is_loaded_by_the_name_of_its_module():
    assert scores.load_score("pad") is pad.score


def test_every_module_is_a_metric():
    assert set(scores.metric_names()) >= {"cosine", "euclidean", "kl", "pad"}
    assert all(callable(scores.load_score(name)) for name in scores.metric_names())


@pytest.mark.parametrize("metric", scores.metric_names())
def test_every_metric_grows_with_the_change(metric):
    base, step = np.random.default_rng(0).normal(size=(2, 8, 4))
    pairs = [HeadPair.of(base, base + size * step) for size in (0.0, 0.01, 0.1, 1.0)]
    values = [scores.load_score(metric)(pair) for pair in pairs]
    assert values == sorted(values)
    assert values[0] == 0.0 < values[1]


@pytest.mark.parametrize("metric", ["pads", "__init__", "os"])
def test_an_unknown_metric_is_refused_with_those_that_exist(metric):
    with pytest.raises(ValueError, match=f"there is no metric {metric}") as refusal:
        scores.load_score(metric)
    known = "did you mean 'pad'?" if metric == "pads" else ", ".join(scores.metric_names())
    assert known in str(refusal.value)
    assert list(option_problems(metric, {})) == [str(refusal.value)]


def test_options_are_the_keyword_arguments_with_their_defaults():
    assert default_options("pad") == {"tau": 1.0, "ground": "index"}
    assert default_options("kl") == {"tau": 1.0, "direction": "base_task"}
    assert default_options("cosine") == {"of": "distribution"}
    assert default_options("euclidean") == {}


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("pad", {}),
        ("pad", {"tau": 2, "ground": "weights"}),
        ("pad", {"tau": 1e-3, "ground": "values"}),
        ("kl", {"tau": 0.5, "direction": "task_base"}),
        ("cosine", {}),
        ("cosine", {"of": "weights"}),
    ],
)
def test_options_that_can_be_are_no_problem(metric, options):
    assert list(option_problems(metric, options)) == []


@pytest.mark.parametrize(
    ("metric", "options", "problem"),
    [
        ("pad", {"ground": "wieghts"}, "there is no ground=wieghts, did you mean 'weights'?"),
        ("pad", {"ground": None}, "there is no ground=None (one of: index, values, weights)"),
        ("pad", {"ground": [1]}, "there is no ground=[1] (one of: index, values, weights)"),
        ("pad", {"grund": "index"}, "metric pad has no option grund, did you mean 'ground'?"),
        ("kl", {"direction": "back"}, "there is no direction=back (one of: base_task, task_base)"),
        ("kl", {"ground": "index"}, "metric kl has no option ground (one of: direction, tau)"),
        ("cosine", {"tau": 1.0}, "metric cosine has no option tau"),
        ("cosine", {"of": "wieghts"}, "there is no of=wieghts, did you mean 'weights'?"),
        ("cosine", {"of": 1}, "there is no of=1 (one of: distribution, weights)"),
        ("pad", {"tau": 0}, "tau must be a number above 0, got 0"),
        ("kl", {"tau": -1.5}, "tau must be a number above 0, got -1.5"),
        ("kl", {"tau": math.nan}, "tau must be a number above 0, got nan"),
        ("kl", {"tau": math.inf}, "tau must be a number above 0, got inf"),
        ("pad", {"tau": "1"}, "tau must be a number above 0, got 1"),
        ("pad", {"tau": True}, "tau must be a number above 0, got True"),
    ],
)
def test_options_that_cannot_be_are_one_sentence_each(metric, options, problem):
    (found,) = option_problems(metric, options)
    assert found.startswith(problem)


@pytest.mark.parametrize("power", ["abc", True, None, [2], math.nan])
def test_an_option_of_another_type_is_refused(monkeypatch, power):
    def score(pair: HeadPair, power: float = 2.0) -> float:
        return power

    monkeypatch.setattr(scores, "load_score", lambda metric: score)
    (problem,) = option_problems("pad", {"power": power})
    assert problem.startswith("power must be a") and problem.endswith(f"got {power!r}")
    assert not list(option_problems("pad", {"power": 3}))


def test_all_problems_of_options_are_told():
    problems = list(option_problems("pad", {"tau": 0, "ground": "x", "y": 1}))
    assert len(problems) == 3


def test_defaults_given_explicitly_do_not_differ():
    assert non_default_options({"tau": 1.0, "ground": "index"}, ["pad"]) == {}
    assert non_default_options({"tau": 1, "ground": "index"}, ["pad"]) == {}


def test_only_options_that_one_of_the_metrics_has_count():
    options = {"tau": 2.0, "ground": "weights", "direction": "task_base"}
    assert non_default_options(options, ["pad"]) == {"tau": 2.0, "ground": "weights"}
    assert non_default_options(options, ["kl"]) == {"tau": 2.0, "direction": "task_base"}
    assert non_default_options(options, ["kl", "pad"]) == options
    assert non_default_options(options, ["cosine", "euclidean"]) == {}


@pytest.mark.parametrize("seed", range(3))
def test_one_pair_gives_all_metrics_the_same_as_pairs_of_their_own(seed):
    base, step = np.random.default_rng(seed).normal(size=(2, 8, 4))
    pair = HeadPair.of(base, base + 0.01 * step)
    for metric in (pad, kl, cosine, euclidean, pad, kl):
        assert metric.score(pair) == metric.score(HeadPair.of(base, base + 0.01 * step))


def test_adding_a_score_as_documented_works(monkeypatch, tmp_path):
    """The guide's own function, outside the package."""
    page = (Path(__file__).parents[2] / "docs" / "add_a_method.md").read_text()
    code = re.search(r"## A new score.*?```python\n(.*?)```", page, re.S)[1]
    (tmp_path / "minkowski.py").write_text(code)
    monkeypatch.setattr(scores, "__path__", [*scores.__path__, str(tmp_path)])
    assert "minkowski" in scores.metric_names() and default_options("minkowski") == {"p": 3.0}
    pair = HeadPair.of([[1.0, 2.0]], [[4.0, 6.0]])
    assert scores.load_score("minkowski")(pair, p=2.0) == pytest.approx(5.0)
    assert not list(option_problems("minkowski", {"p": 2.5}))
    assert list(option_problems("minkowski", {"p": "two"})) == ["p must be a number, got 'two'"]
