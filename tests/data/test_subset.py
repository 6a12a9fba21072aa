import json
import math
from itertools import pairwise

import pytest

from alps.data.example import Example
from alps.data.jsonl import Jsonl
from alps.data.subset import training_examples


@pytest.fixture
def take(tmp_path):
    """Numbers of the rows that are used of `total`, in the order they come in."""

    def numbers(total: int = 200, **changes) -> list[int]:
        path = tmp_path / f"{total}.jsonl"
        if not path.exists():
            rows = ({"instruction": str(i), "output": "x"} for i in range(total))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = Jsonl(name="rows", path=str(path), test_fraction=0.0, **changes)
        return [int(example.instruction) for example in training_examples(source)]

    return numbers


def test_all_rows_are_used_unless_asked_otherwise(take):
    assert take() == list(range(200))
    assert take(max_examples=500) == list(range(200))


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 20), (0.07, 14), (0.3, 60), (0.001, 1)])
def test_a_fraction_is_an_exact_count(take, fraction, expected):
    assert len(take(fraction=fraction)) == expected


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (37, 37), (200, 200)])
def test_max_examples_is_an_exact_count(take, limit, expected):
    assert len(take(max_examples=limit)) == expected


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_a_fraction_is_one_of_the_rows_that_a_run_may_use(take, fraction):
    assert len(take(max_examples=50, fraction=fraction)) == math.ceil(50 * fraction)


def test_the_order_of_the_source_is_kept(take):
    chosen = take(fraction=0.3)
    assert chosen == sorted(chosen)
    assert chosen != list(range(60))


def test_smaller_subsets_lie_inside_larger_ones(take):
    nested = [set(take(fraction=f)) for f in (0.01, 0.1, 0.3, 0.9)]
    assert all(a < b for a, b in pairwise(nested))
    assert set(take(max_examples=20)) == set(take(fraction=0.1))


def test_the_choice_is_repeatable_and_changes_with_the_subset_seed(take):
    assert take(fraction=0.1) == take(fraction=0.1)
    assert take(fraction=0.1) != take(fraction=0.1, subset_seed=1)


def test_the_choice_is_the_same_on_every_machine(take):
    assert take(total=10, max_examples=3) == [0, 4, 6]


def test_no_row_is_one_sentence(take):
    with pytest.raises(ValueError, match="data=rows has no training rows"):
        take(total=0)


def test_rows_are_passed_on_unchanged(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n')
    source = Jsonl(name="rows", path=str(path), test_fraction=0.0)
    assert training_examples(source) == [Example(instruction="a", answer="b")]
