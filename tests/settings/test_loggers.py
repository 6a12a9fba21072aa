"""Names of loggers, and packages that they need."""

import importlib.util

import pytest

from alps.settings.infrastructure import Logger


def test_csv_is_no_logger_besides_metrics_csv():
    assert Logger().names == () and Logger(name="csv+wandb+wandb").names == ("wandb",)


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio"])
def test_a_missing_package_is_a_sentence_with_the_remedy(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert list(Logger(name=f"csv+{name}").problems()) == [
        f"logger={name} needs the {name} package: run `pip install 'alps[{name}]'`"
    ]


@pytest.mark.parametrize("name", ["wandbb", "wandb+wandbb", ""])
def test_an_unknown_logger_is_a_sentence(name):
    (problem,) = [p for p in Logger(name=name).problems() if "not possible" in p]
    assert problem.startswith("logger=")
    assert name == "" or "did you mean 'wandb'?" in problem


def test_it_ends_before_anything_starts(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = cli("train", "model=tiny", "evals=none", "logger=[csv,trackio]", check=2)
    assert "logger=trackio needs the trackio package" in done.stderr
    assert not (tmp_path / "outputs").exists()
