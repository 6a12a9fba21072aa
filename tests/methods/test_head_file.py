import json

import pytest

from alps.base.serialization import SettingsError
from alps.execute import execute
from alps.heads.head_set import HeadSet
from alps.runs.folder import RunFolder
from alps.training.fit import fit

HEADS = {"num_layers": 2, "num_heads": 8, "num_kv_heads": 2, "head_dim": 8}


def write(path, heads, **changes):
    path.write_text(json.dumps({**HEADS, "heads": heads, **changes}))
    return path


def test_the_heads_of_the_file_train(make_run, tmp_path):
    path = write(tmp_path / "heads.json", [[0, 1], [1, 7]])
    run = make_run("method=given", f"method.path={path}", "scope=heads_only", "optim.max_steps=1")
    execute(run, fit)
    chosen = RunFolder(run.folder).read_heads()
    assert isinstance(chosen, HeadSet)
    assert chosen.heads == ((0, 1), (1, 7))


def test_the_same_heads_are_the_same_run_wherever_the_file_lies(make_run, tmp_path):
    keys = [
        make_run("method=given", f"method.path={write(tmp_path / name, heads)}").key
        for name, heads in (("a", [[0, 1]]), ("b", [[0, 1]]), ("c", [[0, 2]]))
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"heads": []}', "lacks the field"),
        (json.dumps({**HEADS, "heads": []}), "at least one head"),
        (json.dumps({**HEADS, "heads": [[9, 0]]}), "lies outside a model of 2 layers"),
        ("no json", "is no head set"),
    ],
)
def test_a_file_that_holds_no_heads_is_refused_by_name(make_run, tmp_path, content, sentence):
    path = tmp_path / "heads.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=f"heads.json.*{sentence}"):
        make_run("method=given", f"method.path={path}")


def test_a_missing_file_and_no_file_are_refused(make_run):
    with pytest.raises(SettingsError, match=r"nowhere\.json cannot be read"):
        make_run("method=given", "method.path=nowhere.json")
    with pytest.raises(SettingsError, match=r"needs method\.path"):
        make_run("method=given")


def test_heads_of_another_shape_or_base_are_refused_before_anything_trains(alps, tmp_path):
    other = write(tmp_path / "shape.json", [[0, 1]], head_dim=16)
    base = write(tmp_path / "base.json", [[0, 1]], base_hash="0" * 64)
    settings = ["method=given", "model=tiny", "evals=none", "data.max_examples=16"]
    done = alps("train", *settings, f"method.path={other}", check=2)
    assert "head_dim=16" in done.stderr and not (tmp_path / "outputs").exists()
    done = alps("train", *settings, f"method.path={base}", check=1)
    assert "another base model (000000000000" in done.stderr
