from pathlib import Path

import pytest

from alps.cli.embed import parse_request
from alps.data.subset import training_examples
from alps.embedding.request import Request

BASE = ("model=tiny", "data=mini_math,mini_code")


def paths(*settings: str) -> list[Path]:
    request = parse_request([*BASE, *settings])
    return [request.embeddings_path(s) for s in request.sources]


def folder(*settings: str) -> Path:
    return parse_request([*BASE, *settings]).folder


def test_places_are_named_by_what_is_in_them():
    math, code = paths()
    assert math.parent == Path("outputs/embeddings")
    assert math.name.startswith("mini_math-") and code.name.startswith("mini_code-")
    assert folder().parent == Path("outputs/reports") and folder().name.startswith("figure7-")
    assert folder("output_dir=x").parent == Path("x/reports")
    assert folder("to=there") == Path("there")


@pytest.mark.parametrize(
    "setting",
    ["num_rows=7", "seed=1", "text=instruction", "template=plain", "max_length=99",
     "dtype=bfloat16", "model.seed=1"],
)  # fmt: skip
def test_what_changes_embeddings_changes_their_name(setting):
    assert not set(paths(setting)) & set(paths())
    assert folder(setting) != folder()


@pytest.mark.parametrize("setting", ["projection=tsne", "num_neighbors=3"])
def test_another_view_is_another_report_of_the_same_embeddings(setting):
    assert paths(setting) == paths()
    assert folder(setting) != folder()


def test_how_rows_are_batched_is_in_no_name():
    assert folder("batch_tokens=1") == folder() and paths("batch_tokens=1") == paths()


def test_rows_are_those_that_training_uses_and_nested(make_run):
    def rows(request: Request) -> list[str]:
        return [e.instruction for e in training_examples(request.sources[0])]

    few, more = (rows(parse_request([*BASE, f"num_rows={n}", "seed=3"])) for n in (20, 60))
    assert len(few) == 20 and set(few) < set(more)
    trained = make_run("data=mini_math", "data.max_examples=20", "data.subset_seed=3").data
    assert few == [e.instruction for e in training_examples(trained)]
    assert few != rows(parse_request([*BASE, "num_rows=20"]))
