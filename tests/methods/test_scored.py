from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from alps.base.serialization import SettingsError
from alps.config.build import model_choice
from alps.execute import choose_heads
from alps.heads.head_set import HeadSet
from alps.localization.engine import localize
from alps.methods.dense import Full
from alps.methods.scored import Bottom, LayerMatchedRandom, Scored
from alps.models.checkpoint import materialize
from alps.pipeline.preflight import check
from alps.scores import metric_names
from alps.settings.run import TaskModel


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """The tiny model, and one that moved from it, more in some layers and heads than in others."""
    base = materialize(model_choice("tiny"))
    task = tmp_path_factory.mktemp("task")
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(base / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            rows = torch.rand(len(tensor), 1, generator=generator)
            tensor += 0.01 * rows * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, task / "model.safetensors")
    (task / "config.json").write_bytes((base / "config.json").read_bytes())
    return base, task


@pytest.fixture
def chosen(pair, make_run):
    """The heads a run of these settings chooses; nothing trains."""

    def choose(*settings: str) -> HeadSet:
        task_model = ("task_model=readily", f"task_model.path={pair[1]}")
        run = make_run(*task_model, *settings)
        check(run)
        return choose_heads(run, fit=None)

    return choose


def by_layer(chosen: HeadSet) -> Counter:
    return Counter(layer for layer, _ in chosen.heads)


def scored(cls: type[Scored] = Scored, **changes) -> Scored:
    settings = {"name": "alps", "ratio": 0.3, "scope": "rest_trains", "metric": "pad"}
    return cls(**{**settings, "task_model": TaskModel(method=Full(name="full")), **changes})


@pytest.mark.parametrize("metric", metric_names())
def test_the_heads_of_the_highest_scores_are_chosen_and_the_scores_kept(pair, chosen, metric):
    found = chosen(f"method={'alps' if metric == 'pad' else metric}", "ratio=0.3")
    expected = localize(*pair, metric)
    assert found.heads == expected.top(0.3).heads and len(found.heads) == 5
    assert (found.metric, found.ratio) == (metric, 0.3)
    assert np.array_equal(found.scores, expected.values)
    (folder,) = Path("outputs/scores").iterdir()
    np.testing.assert_array_equal(
        load_numpy(folder / "scores.safetensors")[metric], expected.values
    )


def test_all_metrics_share_the_folder_of_their_pair(chosen):
    for method in ("alps", "kl", "cosine", "bottom", "layer_matched_random"):
        chosen(f"method={method}")
    (folder,) = Path("outputs/scores").iterdir()
    assert set(load_numpy(folder / "scores.safetensors")) == {"pad", "kl", "cosine"}


def test_bottom_has_the_lowest_heads(pair, chosen):
    scores = localize(*pair).values
    heads = chosen("method=bottom", "ratio=0.3").heads
    inside = {float(scores[head]) for head in heads}
    outside = set(scores.ravel().tolist()) - inside
    assert len(heads) == 5 and max(inside) < min(outside)
    assert not set(heads) & set(chosen("method=alps", "ratio=0.3").heads)


def test_layer_matched_random_has_the_layers_of_alps_and_other_heads(chosen):
    top = chosen("method=alps", "ratio=0.3")
    drawn = [chosen("method=layer_matched_random", "ratio=0.3", f"seed={s}") for s in range(4)]
    assert all(by_layer(d) == by_layer(top) for d in drawn)
    assert len({d.heads for d in drawn}) > 1 and any(d.heads != top.heads for d in drawn)
    again = chosen("method=layer_matched_random", "ratio=0.3", "seed=0")
    assert again.heads == drawn[0].heads


OPTIONS = [
    ("alps", {"ground": "weights"}),
    ("alps", {"ground": "values"}),
    ("alps", {"tau": 0.01}),
    ("kl", {"direction": "task_base", "tau": 0.01}),
    ("cosine", {"of": "weights"}),
    ("bottom", {"ground": "weights"}),
]


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_options_reach_the_score(pair, chosen, method, options):
    found = chosen(f"method={method}", *(f"method.options.{k}={v}" for k, v in options.items()))
    expected = localize(*pair, found.metric, **options)
    assert np.array_equal(found.scores, expected.values)
    assert not np.array_equal(found.scores, localize(*pair, found.metric).values)
    rank = expected.bottom if method == "bottom" else expected.top
    assert found.heads == rank(0.1).heads
    assert options.items() <= found.provenance["options"].items()


@pytest.mark.parametrize("setting", [{"matrix": "concat"}, {"compat": "authors"}])
def test_what_is_compared_reaches_the_score(pair, chosen, setting):
    found = chosen("method=alps", *(f"method.{k}={v}" for k, v in setting.items()))
    assert np.array_equal(found.scores, localize(*pair, **setting).values)


def test_defaults_given_explicitly_use_the_same_scores(chosen):
    chosen("method=alps")
    chosen("method=alps", "method.options.tau=1.0", "method.options.ground=index")
    assert len(list(Path("outputs/scores").iterdir())) == 1


def test_another_score_is_another_run(make_run):
    settings = ["", "method.options.ground=weights", "method.matrix=concat", "method.bias=include"]
    keys = {make_run("method=alps", *filter(None, [s])).key for s in settings}
    assert len(keys) == len(settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["method.options.ground=wieghts"], "there is no ground=wieghts, did you mean 'weights'?"),
        (["method.options.tau=0"], "tau must be a number above 0, got 0"),
        (["+method.options.grund=index"], "metric pad has no option grund, did you mean 'ground'?"),
        (["method=kl", "method.options.direction=x"], "there is no direction=x"),
        (["method=cosine", "+method.options.tau=2"], "metric cosine has no option tau"),
        (["method=cosine", "method.options.of=wieghts"], "there is no of=wieghts, did you mean"),
        (
            ["method=cosine", "method.compat=authors", "method.options.of=weights"],
            "compat=authors cannot have of=weights",
        ),
        (["method.metric=eucldean"], "there is no metric eucldean, did you mean 'euclidean'?"),
        (["method.matrix=produkt"], "method.matrix=produkt is not possible"),
        (["method.bias=yes"], "method.bias=yes is not possible"),
        (["method.compat=author"], "method.compat=author is not possible"),
        (["method=euclidean", "method.compat=authors"], "compat=authors has no metric euclidean"),
        (["method.compat=authors", "method.options.tau=2"], "compat=authors cannot have tau=2"),
    ],
)
@pytest.mark.parametrize("method", ["alps", "bottom", "layer_matched_random"])
def test_what_cannot_be_is_refused_when_the_run_is_built(make_run, method, settings, problem):
    own = [] if settings[0].startswith("method=") else [f"method={method}"]
    with pytest.raises(SettingsError) as refusal:
        make_run(*own, *settings)
    (found,) = refusal.value.problems
    assert found.startswith(problem) and not list(Path().iterdir())


def test_a_wrong_option_ends_the_command_before_any_folder_exists(alps, tmp_path):
    done = alps("train", "model=tiny", "method.options.ground=wieghts", check=2)
    (line,) = done.stderr.splitlines()
    assert line == "error: there is no ground=wieghts, did you mean 'weights'?"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cls", [Scored, Bottom, LayerMatchedRandom])
@pytest.mark.parametrize("metric", metric_names())
def test_a_known_metric_is_taken(metric, cls):
    assert list(scored(cls, metric=metric).problems()) == []


@pytest.mark.parametrize("method", ["alps", "bottom", "layer_matched_random"])
def test_a_task_model_equal_to_the_base_is_refused(make_run, method):
    base = materialize(model_choice("tiny"))
    run = make_run(f"method={method}", "task_model=readily", f"task_model.path={base}")
    with pytest.raises(ValueError, match="identical attention weights"):
        choose_heads(run, fit=None)
    assert not Path("outputs").exists()
