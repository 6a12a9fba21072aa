from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from alps.cli.embed import parse_request
from alps.data.subset import training_examples
from alps.embedding import cache as remember
from alps.embedding.cache import embed_all, embed_cached

PATH = Path("outputs/embeddings/a.safetensors")


def never() -> torch.Tensor:
    raise AssertionError("computed again")


def test_what_is_there_is_not_computed_again():
    vectors = torch.randn(5, 3)
    np.testing.assert_array_equal(embed_cached(PATH, 5, lambda: vectors), vectors.numpy())
    np.testing.assert_array_equal(embed_cached(PATH, 5, never), vectors.numpy())
    assert load_file(PATH)["embeddings"].dtype == np.float32
    assert list(PATH.parent.iterdir()) == [PATH]


def test_a_damaged_file_and_one_of_other_rows_count_as_nothing():
    embed_cached(PATH, 5, lambda: torch.zeros(5, 3))
    assert len(embed_cached(PATH, 6, lambda: torch.ones(6, 3))) == 6
    PATH.write_bytes(PATH.read_bytes()[:40])
    assert embed_cached(PATH, 6, lambda: 2 * torch.ones(6, 3))[0, 0] == 2
    assert embed_cached(PATH, 6, never)[0, 0] == 2


def test_embeddings_that_are_no_numbers_are_not_kept():
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        embed_cached(PATH, 1, lambda: torch.tensor([[float("nan")]]))
    assert not PATH.exists()


def test_each_dataset_is_embedded_once_whatever_the_picture(monkeypatch):
    titles = []

    @contextmanager
    def bar(title: str):
        titles.append(title)
        yield lambda done, total: None

    small = ["model=tiny", "num_rows=4", "text=instruction"]

    def run(*settings: str):
        request = parse_request([*small, *settings])
        examples = {s.name: list(training_examples(s)) for s in request.sources}
        return embed_all(request, examples, bar)

    first, about = run("data=mini_math,mini_code")
    assert titles == ["embedding mini_math", "embedding mini_code"]
    assert {name: v.shape for name, v in first.items()} == {
        "mini_math": (4, 64), "mini_code": (4, 64),
    }  # fmt: skip
    more, _ = run("data=mini_general,mini_math", "projection=tsne", "batch_tokens=9")
    assert titles[2:] == ["embedding mini_general"]
    np.testing.assert_array_equal(more["mini_math"], first["mini_math"])
    monkeypatch.setattr(remember, "load_model", never)
    again, same = run("data=mini_math,mini_code")
    assert same == about and len(titles) == 3
    np.testing.assert_array_equal(again["mini_code"], first["mini_code"])
    assert about["model"]["name"] == "tiny"
    (math, _) = about["datasets"]
    assert (math["name"], math["num_rows"], math["num_cut"]) == ("mini_math", 4, 0)
    assert (Path("outputs/embeddings") / math["embeddings"]).exists()


def test_bfloat16_reaches_the_model():
    request = parse_request(["model=tiny", "num_rows=4", "data=mini_math"])
    examples = {"mini_math": list(training_examples(request.sources[0]))}
    half = replace(request, settings=replace(request.settings, dtype="bfloat16"))

    @contextmanager
    def bar(title: str):
        yield lambda done, total: None

    fine, coarse = (embed_all(r, examples, bar)[0]["mini_math"] for r in (request, half))
    assert 0 < np.abs(fine - coarse).max() < 0.1
