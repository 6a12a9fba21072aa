import pytest

from alps.cli.arguments import split_settings, top_level_name, without_multirun


def test_settings_are_split_from_the_rest():
    values, others = split_settings(["a=1", "b", "a=2=3", "c="])
    assert (values, others) == ({"a": "2=3", "c": ""}, ["b"])
    assert split_settings(["a=1", "b=2", "a"], ("a",)) == ({"a": "1"}, ["b=2", "a"])


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("seed=1", "seed"),
        ("++optim.lr=1", "optim"),
        ("~data", "data"),
        ("data@task_model.data=alpaca", "data"),
        ("hydra/launcher=slurm", "hydra"),
    ],
)
def test_the_setting_that_an_override_changes(override, name):
    assert top_level_name(override) == name


def test_multirun_is_left_out():
    assert without_multirun(["-m", "a=1", "--multirun", "m"]) == ["a=1", "m"]
