import json
from dataclasses import replace

import pytest

from alps.base.atomic import write_json
from alps.base.provenance import git_state, versions
from alps.runs.result import SCHEMA_VERSION, Result, RunFailed

RESULT = Result(
    key="alps-0123456789ab",
    model="tiny",
    data="mini_math",
    method="alps",
    ratio=0.1,
    scope="rest_trains",
    seed=0,
    num_trainable=1234,
    trainable_fraction=0.5,
    train_seconds=1.25,
    evals={"held_out": {"loss": 0.1 + 0.2}},
    data_hash="d",
    base_hash="b",
)


def test_a_result_survives_its_file(tmp_path):
    path = tmp_path / "result.json"
    RESULT.write(path)
    assert Result.read(path) == RESULT
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION


def test_a_result_records_where_it_came_from():
    assert {"alps", "torch", "transformers"} <= set(RESULT.versions)
    assert RESULT.versions == versions()
    assert (RESULT.git_commit, RESULT.git_dirty) == git_state()
    assert RESULT.finished_at.endswith("Z")


def test_a_result_with_fields_we_do_not_know_is_read(tmp_path):
    path = tmp_path / "result.json"
    RESULT.write(path)
    write_json(path, {**json.loads(path.read_text()), "from_the_future": 1})
    assert Result.read(path) == RESULT


@pytest.mark.parametrize("text", ["", '{"key": "alps-', "[]", "null"])
def test_a_damaged_result_is_one_sentence(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(RunFailed, match=r"result\.json is damaged"):
        Result.read(path)


@pytest.mark.parametrize("name", ["evals", "uncertainty", "versions"])
def test_a_result_whose_numbers_are_none_is_one_sentence(tmp_path, name):
    path = tmp_path / "result.json"
    RESULT.write(path)
    write_json(path, {**json.loads(path.read_text()), name: None})
    with pytest.raises(RunFailed, match=rf"result\.json is damaged \({name} is None\)"):
        Result.read(path)


@pytest.mark.parametrize("evals", [{"b": {"x": "high"}}, {"b": None}, {"b": [1]}])
def test_a_metric_that_is_no_number_is_one_sentence(tmp_path, evals):
    path = tmp_path / "result.json"
    RESULT.write(path)
    write_json(path, {**json.loads(path.read_text()), "evals": evals})
    with pytest.raises(RunFailed, match=r"result\.json is damaged"):
        Result.read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"uncertainty": {"b": 5}}, {"uncertainty": {"b": {"x": {"low": "a"}}}},
        {"deviations": None}, {"deviations": "none"}, {"deviations": [1]},
        {"trainable_fraction": "0.1"}, {"model": None},
        {"train_seconds": [1]}, {"git_commit": {"a": 1}}, {"versions": {"torch": 2}},
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_one_sentence(tmp_path, changes):
    """Readers count on the types: a number that is text ended the page of all runs."""
    path = tmp_path / "result.json"
    RESULT.write(path)
    write_json(path, {**json.loads(path.read_text()), **changes})
    with pytest.raises(RunFailed, match=rf"result\.json is damaged \({next(iter(changes))} is "):
        Result.read(path)


def test_a_folder_in_the_place_of_a_result_is_one_sentence(tmp_path):
    with pytest.raises(RunFailed, match=r"is damaged"):
        Result.read(tmp_path)


def test_a_result_that_lacks_fields_is_one_sentence(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"schema_version": SCHEMA_VERSION, "key": "x"})
    with pytest.raises(RunFailed, match=r"result\.json is damaged"):
        Result.read(path)


@pytest.mark.parametrize("schema", [0, SCHEMA_VERSION + 1, None])
def test_a_result_of_another_schema_is_one_sentence(tmp_path, schema):
    path = tmp_path / "result.json"
    replace(RESULT, schema_version=schema).write(path)
    with pytest.raises(RunFailed, match=rf"has schema {schema}, this version reads"):
        Result.read(path)
