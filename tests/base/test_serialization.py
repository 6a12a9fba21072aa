import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from alps.base.serialization import (
    MOVED,
    SettingsError,
    argument_types,
    did_you_mean,
    from_dict,
    name_problems,
    seed_problems,
    target_class,
    to_dict,
    value_problems,
    with_current_targets,
)
from alps.methods.dense import Full
from alps.settings.infrastructure import Evals, Trainer
from alps.settings.interfaces import Method, Source
from alps.settings.model import Model
from alps.settings.run import Optim

OPTIM = {"lr": 1e-3, "batch_size": 8, "epochs": 1}
FULL = {"_target_": "alps.methods.dense.Full", "name": "full"}


@dataclass(frozen=True, kw_only=True)
class Inner:
    word: Literal["red", "green"] = "red"
    pair: tuple[float, int] = (1.0, 2)

    def problems(self) -> Iterator[str]:
        if self.pair[1] < 0:
            yield "the second must not be negative"


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    inner: Inner = Inner()
    names: tuple[str, ...] = ()
    numbers: Mapping[str, int | bool] | None = None
    anything: float | str | None = None


def problems(plain, cls=Outer, where="") -> list[str]:
    with pytest.raises(SettingsError) as error:
        from_dict(plain, cls, where)
    assert str(error.value) == "; ".join(error.value.problems)
    return error.value.problems


def test_a_nested_dataclass_survives_the_way_there_and_back():
    value = Outer(
        count=1,
        inner=Inner(word="green", pair=(0.5, 3)),
        names=("a", "b"),
        numbers={"x": 1, "y": True},
        anything="text",
    )
    assert from_dict(to_dict(value), Outer) == value
    assert from_dict(to_dict(value), Outer).numbers["y"] is True


def test_the_class_is_named_and_found_without_being_expected():
    plain = to_dict(Optim(lr=1e-3, batch_size=8, epochs=1))
    assert plain["_target_"] == "alps.settings.run.Optim"
    assert plain["betas"] == [0.9, 0.999]
    assert from_dict(plain) == Optim(lr=1e-3, batch_size=8, epochs=1)


def test_a_family_is_built_as_the_member_it_names():
    assert from_dict(FULL, Method) == Full(name="full")


def test_whole_numbers_are_numbers():
    optim = from_dict({**OPTIM, "lr": 1}, Optim)
    assert optim.lr == 1.0 and isinstance(optim.lr, float)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lrr": 1}, "optim.lrr is not a setting, did you mean 'lr'?"),
        ({"lr": "fast"}, "optim.lr must be a number, got 'fast'"),
        ({"lr": True}, "optim.lr must be a number, got True"),
        ({"epochs": 1.5}, "optim.epochs must be a whole number, got 1.5"),
        ({"epochs": True}, "optim.epochs must be a whole number, got True"),
        ({"epochs": None}, "optim.epochs must be a whole number, got None"),
        ({"name": 3}, "optim.name must be a text, got 3"),
        ({"betas": 0.9}, "optim.betas must be a list, got 0.9"),
        ({"betas": [0.9]}, "optim.betas must have 2 values, got 1"),
        ({"betas": [0.9, "x"]}, "optim.betas[1] must be a number, got 'x'"),
        ({"clip_norm": "x"}, "optim.clip_norm must be a number, got 'x'"),
        (
            {"precision": "16mixed"},
            "optim.precision=16mixed is not possible, did you mean '16-mixed'?",
        ),
        ({"lr": -1}, "optim.lr must be positive, got -1.0"),
        ({"lr": math.nan}, "optim.lr must be a finite number, got nan"),
        ({"lr": -math.inf}, "optim.lr must be a finite number, got -inf"),
        ({"epochs": 2**63}, f"optim.epochs must be a whole number of at most 64 bits, got {2**63}"),
        ({"lr": 10**400}, f"optim.lr must be a finite number, got {10**400}"),
    ],
)
def test_a_wrong_value_is_one_sentence(change, problem):
    assert problems({**OPTIM, **change}, Optim, "optim") == [problem]


def test_a_missing_field_is_named():
    assert problems({"lr": 1e-3, "epochs": 1}, Optim, "optim") == ["optim.batch_size is missing"]


def test_a_literal_lists_its_options_where_none_is_close():
    (problem,) = problems({"count": 1, "inner": {"word": "mauve"}})
    assert problem == "inner.word=mauve is not possible (one of: green, red)"


def test_an_unknown_field_lists_the_known_ones_where_none_is_close():
    (problem,) = problems({"count": 1, "zzz": 1})
    assert problem == "zzz is not a setting (one of: anything, count, inner, names, numbers)"


def test_several_problems_are_told_together():
    plain = {"inner": {"word": "blue", "pear": 1}, "names": ["a", 2], "numbers": {"x": 0.5}}
    assert problems(plain, where="here") == [
        "here.inner.word=blue is not possible (one of: green, red)",
        "here.inner.pear is not a setting, did you mean 'pair'?",
        "here.names[1] must be a text, got 2",
        "here.numbers.x must be a whole number, got 0.5",
        "here.count is missing",
    ]


def test_a_dataclass_complains_itself_once_its_fields_fit():
    assert problems({"count": 1, "inner": {"pair": [1, -1]}}) == ["the second must not be negative"]


def test_all_own_complaints_are_told_together():
    given = {"devices": 0, "micro_batch_size": 0}
    assert problems(given, Trainer) == [
        "trainer.devices must be at least 1, got 0",
        "trainer.micro_batch_size must be at least 1, got 0",
    ]


@pytest.mark.parametrize("given", [None, 3, "text", []])
def test_a_group_must_be_a_group(given):
    assert problems({"count": 1, "inner": given}) == [
        f"inner must be a group of settings, got {given!r}"
    ]


def test_an_optional_value_may_be_null_and_a_union_takes_either():
    assert from_dict({"count": 1, "anything": None}, Outer).anything is None
    assert from_dict({"count": 1, "anything": "x"}, Outer).anything == "x"
    assert from_dict({"count": 1, "anything": 2}, Outer).anything == 2.0
    assert len(problems({"count": 1, "anything": [1]})) == 1


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("alps.methods.nothing.Full", "cannot be imported"),
        ("alps.methods.dense.Nothing", "cannot be imported"),
        ("Full", "cannot be imported"),
        ("os.path.join", "is not a Method"),
        (".x", "cannot be imported"),
        (3, "cannot be imported"),
        ("alps.settings.run.Optim", "is not a Method"),
    ],
)
def test_a_wrong_target_is_one_sentence(target, problem):
    (found,) = problems({"_target_": target, "name": "x"}, Method, "method")
    assert found.startswith(f"method: _target_: {target} ") and problem in found


@pytest.mark.parametrize("family", [Method, Source])
def test_a_family_needs_a_target(family):
    (problem,) = problems({"name": "x"}, family, "method")
    assert "_target_" in problem


def test_a_target_must_be_a_dataclass():
    with pytest.raises(ValueError, match="is not a dataclass"):
        target_class("pathlib.Path")


def test_a_list_of_components_names_the_one_that_is_wrong():
    held_out = {"_target_": "alps.evals.held_out.HeldOut", "name": "h", "protocol": "plain"}
    benchmarks = [held_out, {**held_out, "limi": 3}]
    (problem,) = problems({"benchmarks": benchmarks}, Evals, "evals")
    assert problem == "evals.benchmarks[1].limi is not a setting, did you mean 'limit'?"


def test_a_model_without_a_place_is_refused_with_the_remedy():
    assert problems({"name": "x"}, Model, "model") == [
        "model names no place to load from: set model.path=<hub id or folder>"
    ]


def test_a_part_that_cannot_look_at_its_files_complains_like_any_other():
    place = {"_target_": "alps.data.sources.jsonl.Jsonl", "path": "x" * 300}
    (problem,) = problems(place, Source, "data")
    assert problem.endswith("x does not exist")

    @dataclass(frozen=True, kw_only=True)
    class Unreadable:
        def problems(self) -> Iterator[str]:
            yield from ()
            raise OSError(36, "File name too long")

    assert problems({}, Unreadable) == ["[Errno 36] File name too long"]


def test_options_of_a_function_have_the_types_of_its_annotations_or_defaults():
    def score(pair, power: float = 2.0, ground: Literal["a", "b"] = "a", plain=3, other=None):
        """A metric."""

    types = argument_types(score)
    assert types == {"power": float, "ground": Literal["a", "b"], "plain": int, "other": Any}
    assert value_problems("abc", types["power"], "power") == ["power must be a number, got 'abc'"]
    assert value_problems(2, types["power"], "power") == []
    assert value_problems(1.5, types["plain"], "plain") == ["plain must be a whole number, got 1.5"]
    assert value_problems([1], types["other"], "other") == []


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("mini_math", True), ("v1.2+x-y", True), ("größe", True), ("a" * 100, True),
        ("a" * 101, False), ("", False), ("a/b", False), ("..", False), ("a b", False),
        ("a\n", False),
    ],
)  # fmt: skip
def test_a_name_of_a_folder_has_no_other_characters(name, fits):
    assert bool(list(name_problems(name, "x"))) == (not fits)


def test_a_seed_is_what_every_generator_takes():
    for seed in (0, 2**32 - 1):
        assert not list(seed_problems(seed, "seed"))
        np.random.default_rng(seed)
        np.random.RandomState(seed)
    for seed in (-1, 2**32):
        assert list(seed_problems(seed, "seed")) == [
            f"seed must lie in [0, 4294967295], got {seed}"
        ]


def test_did_you_mean_takes_the_closest_word_or_lists_all():
    assert did_you_mean("cosin", ["kl", "cosine"]) == ", did you mean 'cosine'?"
    assert did_you_mean("zzz", ["kl", "cosine"]) == " (one of: cosine, kl)"


@pytest.mark.parametrize(
    "path",
    [
        "alps.settings.Run", "alps.settings.Model", "alps.settings.Optim", "alps.settings.Evals",
        "alps.infrastructure.Trainer", "alps.families.PromptFile", "alps.methods.whole.Full",
        "alps.methods.given.Given", "alps.data.table.Table", "alps.data.jsonl.Jsonl",
        "alps.data.mini.Mini", "alps.evals.harness_documents.Split",
        "alps.evals.harness.HarnessTask", "alps.evals.ifeval.IFEval", "alps.evals.mmlu.Mmlu",
        "alps.evals.evalplus_benchmark.EvalPlus",
        "alps.evals.mini_tasks.MiniTask", "alps.evals.evalplus_mini.MiniCode",
    ],
)  # fmt: skip
def test_files_of_earlier_versions_name_classes_where_they_were(path):
    assert target_class(path).__name__ == path.rpartition(".")[2]
    assert path.rpartition(".")[0] in MOVED


def test_serialized_settings_of_an_earlier_version_become_those_of_this_one():
    earlier = {"a": [{"_target_": "alps.methods.whole.Full", "name": "full"}], "b": 1}
    assert with_current_targets(earlier) == {"a": [FULL], "b": 1}
