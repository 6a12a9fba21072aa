import pytest

from alps.base.serialization import SettingsError
from alps.config.build import build_request, compose_config
from alps.localization.request import Request, authors_problems

PAIR = ("base=a", "task=b")


def request(*settings: str) -> Request:
    return build_request(compose_config([*PAIR, *settings], "localize"))


def test_the_defaults_are_those_of_the_yaml():
    found = request()
    assert found == Request(base="a", task="b", options=found.options)
    assert found.options == {
        "tau": 1.0, "ground": "index", "direction": "base_task", "of": "distribution",
    }  # fmt: skip
    assert list(found.problems()) == []


def test_settings_arrive_where_they_belong():
    found = request(
        "metric=[kl,pad]", "ratio=0.25", "matrix=concat", "bias=include", "tau=2", "ground=weights",
        "output_dir=o", "of=weights",
    )  # fmt: skip
    assert (found.metric, found.ratio, found.matrix) == (("kl", "pad"), 0.25, "concat")
    assert (found.bias, found.output_dir) == ("include", "o")
    assert found.options == {
        "tau": 2, "ground": "weights", "direction": "base_task", "of": "weights",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["ratio=0"], "ratio must lie in (0, 1], got 0.0"),
        (["ratio=1.5"], "ratio must lie in (0, 1], got 1.5"),
        (["ratio=-0.1"], "ratio must lie in (0, 1], got -0.1"),
        (["ratio=nan"], "ratio must be a finite number, got nan"),
        (["ratio=half"], "ratio must be a number, got 'half'"),
        (["metric=[]"], "metric names no metric (one or more of: cosine, "),
        (["metric=[pda]"], "there is no metric pda, did you mean 'pad'?"),
        (["metric=[pad,cosin]"], "there is no metric cosin, did you mean 'cosine'?"),
        (["metric=[1]"], "metric[0] must be a text, got 1"),
        (["tau=0"], "tau must be a number above 0, got 0"),
        (["tau=-1"], "tau must be a number above 0, got -1"),
        (["tau=inf"], "tau must be a number above 0, got inf"),
        (["tau=warm"], "tau must be a number above 0, got warm"),
        (["ground=wieghts"], "there is no ground=wieghts, did you mean 'weights'?"),
        (["of=wieghts"], "there is no of=wieghts, did you mean 'weights'?"),
        (["direction=forth"], "there is no direction=forth (one of: base_task, task_base)"),
        (["matrix=produkt"], "matrix=produkt is not possible, did you mean 'product'?"),
        (["bias=includes"], "bias=includes is not possible, did you mean 'include'?"),
        (["compat=author"], "compat=author is not possible, did you mean 'authors'?"),
        (["base=null"], "base must be a text, got None"),
        (["task=3"], "task must be a text, got 3"),
        (["compat=authors", "tau=2"], "compat=authors cannot have tau=2"),
        (
            ["compat=authors", "metric=[cosine]", "of=weights"],
            "compat=authors cannot have of=weights: leave of out, as the script does",
        ),
        (["compat=authors", "bias=include"], "compat=authors cannot have bias=include"),
        (
            ["compat=authors", "metric=[pad,euclidean]"],
            "compat=authors has no metric euclidean (one of: pad, kl, cosine)",
        ),
        (["matrx=concat"], "matrx is not a setting, did you mean 'matrix'?"),
        (["options={}"], "options is not a setting"),
        ([f"output_dir={__file__}/x"], "/x cannot be written to: name another folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(settings, sentence):
    with pytest.raises(SettingsError) as refusal:
        request(*settings)
    (problem,) = refusal.value.problems
    assert sentence in problem and "\n" not in problem


def test_all_problems_are_told_together():
    with pytest.raises(SettingsError) as refusal:
        request("ratio=2", "metric=[pda]", "tau=0", "ground=x")
    assert len(refusal.value.problems) == 4


@pytest.mark.parametrize("given", [["base=a"], ["task=b"], []])
def test_a_missing_checkpoint_is_named(given):
    with pytest.raises(SettingsError) as refusal:
        build_request(compose_config(given, "localize"))
    missing = {"base", "task"} - {g.split("=")[0] for g in given}
    assert set(refusal.value.problems) == {f"{name}=... is missing" for name in missing}


def test_an_option_no_metric_has_is_refused_with_those_there_are():
    (problem,) = Request(base="a", task="b", options={"grund": "index"}).problems()
    assert problem == "no metric has an option grund, did you mean 'ground'?"


def test_an_option_of_another_metric_is_no_problem():
    """One command line serves several metrics."""
    assert list(request("metric=[cosine]", "ground=weights").problems()) == []
    assert list(request("metric=[pad]", "compat=authors", "direction=task_base").problems()) == []


def test_the_authors_script_has_metrics_and_settings_of_its_own():
    assert list(authors_problems(["pad", "kl", "cosine"], {"tau": 1.0}, "ignore")) == []
    found = list(authors_problems(["euclidean"], {"tau": 2.0}, "include"))
    assert len(found) == 2  # euclidean has no tau
