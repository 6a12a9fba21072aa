import json
import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from alps.base.cache import cache_dir
from alps.data.example import DropCounts, Example, Split
from alps.data.sources.jsonl import Jsonl
from alps.data.subset import (
    CONTAMINATED,
    DUPLICATE,
    _first_occurrences,
    subset_identity,
    training_examples,
)
from alps.settings.interfaces import Source

PASSES: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Counted(Source):
    """Numbered rows; each pass over them is noted, and every tenth row is empty."""

    total: int = 100
    repeat: int = 1000000

    def examples(self, split: Split, dropped: DropCounts | None = None) -> Iterator[Example]:
        PASSES.append(split)
        for i in range(self.total):
            if i % 10:
                yield Example(instruction=f"Row {i % self.repeat}", answer="yes")
            elif dropped is not None:
                dropped["empty answer"] += 1

    def fingerprint(self) -> str:
        return "counted"


@pytest.fixture
def passes(tmp_path, monkeypatch):
    """Passes over a source, in a test with a cache of its own."""
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    PASSES.clear()
    return PASSES


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


def test_skipped_rows_are_those_that_another_run_uses(take):
    first, rest = set(take(max_examples=30)), set(take(skip_examples=30))
    assert not first & rest and first | rest == set(range(200))
    second = set(take(skip_examples=30, max_examples=30))
    assert len(second) == 30 and first | second == set(take(max_examples=60))
    assert set(take(skip_examples=30, max_examples=30, fraction=0.1)) < second


def test_skipping_every_row_is_one_sentence(take):
    with pytest.raises(ValueError, match=r"no training rows \(data.skip_examples=200 skips all"):
        take(skip_examples=200)


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
    assert list(training_examples(source)) == [Example(instruction="a", answer="b")]


def test_rows_are_not_read_before_they_are_asked_for_and_can_be_read_again(passes):
    rows = training_examples(Counted(fraction=0.5))
    assert len(rows) == 45 and len(passes) == 1
    assert list(rows) == list(rows) and len(passes) == 3


def test_a_later_process_reads_no_row_to_know_which_are_used(passes):
    first = training_examples(Counted(fraction=0.5, deduplicate=True))
    again = training_examples(Counted(fraction=0.5, deduplicate=True))
    assert len(passes) == 1
    assert list(again) == list(first) and again.dropped == first.dropped == {"empty answer": 10}


@pytest.mark.parametrize(
    "changes", [{"total": 90}, {"subset_seed": 1}, {"deduplicate": True}, {"skip_examples": 3}]
)
def test_other_rows_are_another_choice(passes, changes):
    source = Counted(fraction=0.5)
    training_examples(source)
    training_examples(replace(source, **changes))
    assert len(passes) == 2


def test_how_rows_are_written_does_not_change_which_are_used(passes):
    training_examples(Counted())
    training_examples(Counted(template="chat", max_length=9, too_long="drop", batching="padded"))
    assert len(passes) == 1


def test_the_held_out_rows_do_not_depend_on_the_choice_of_training_rows():
    own = {"fraction": 0.5, "max_examples": 3, "subset_seed": 4, "skip_examples": 5}
    part = Counted(deduplicate=True, **own)
    assert subset_identity(part, "test") == subset_identity(Counted(), "test")
    assert subset_identity(part, "train") != subset_identity(Counted(), "train")


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive", None])
def test_a_damaged_memory_is_made_again(passes, damage):
    first = list(training_examples(Counted(fraction=0.3)))
    (memory,) = (cache_dir() / "rows").iterdir()
    whole = memory.read_bytes()
    memory.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert list(training_examples(Counted(fraction=0.3))) == first
    assert memory.read_bytes() == whole


def test_a_source_that_fails_is_not_remembered(passes, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Counted, "examples", lambda *_: iter([Example(instruction="a", answer="")]))
        patch.setattr("alps.data.subset.content_digest", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training_examples(Counted(deduplicate=True))
    assert not (cache_dir() / "rows").exists()
    assert len(training_examples(Counted(deduplicate=True))) == 90


def test_the_first_of_equal_rows_stays(passes):
    rows = training_examples(Counted(total=60, repeat=25, deduplicate=True))
    expected = dict.fromkeys(i % 25 for i in range(60) if i % 10)
    assert [int(row.instruction.split()[1]) for row in rows] == list(expected)
    assert rows.dropped[DUPLICATE] == 54 - len(expected)


def test_digests_that_are_half_the_same_are_of_two_rows():
    digests = np.array([[1, 2], [3, 2], [1, 2], [1, 4], [3, 2]], dtype=np.uint64)
    assert _first_occurrences(digests).tolist() == [0, 1, 3]


def test_case_and_white_space_make_no_difference(tmp_path, passes):
    texts = [
        ("Add 1.", "2"),
        (" add  1. ", "2\n"),
        ("Add 1.", "3"),
        ("Add1.", "2"),
        ("ADD 1.", "2"),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"instruction": i, "output": o}) + "\n" for i, o in texts))
    source = Jsonl(name="rows", path=str(path), test_fraction=0.0)
    assert len(training_examples(source)) == 5
    rows = training_examples(replace(source, deduplicate=True))
    assert [(row.instruction, row.answer) for row in rows] == [texts[0], texts[2], texts[3]]
    assert rows.dropped == {DUPLICATE: 2}


def test_a_fraction_is_taken_of_what_is_left(passes):
    kept = training_examples(Counted(repeat=20, deduplicate=True))
    part = training_examples(Counted(repeat=20, deduplicate=True, fraction=0.5))
    assert len(part) == len(kept) // 2
    assert set(map(repr, part)) < set(map(repr, kept))


def test_rows_of_a_benchmark_are_left_out_and_counted(tmp_path, passes):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"question": "row 11"}) + "\n")
    rows = training_examples(Counted(decontaminate=(str(prompts),), ngram=2))
    assert len(rows) == 89 and all(row.instruction != "Row 11" for row in rows)
    assert rows.dropped == {"empty answer": 10, CONTAMINATED: 1}


def test_prompts_are_told_apart_by_content_not_by_place(tmp_path, passes):
    places = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for place in places:
        place.write_text(json.dumps({"question": "row 11"}) + "\n")
    first, second = (Counted(decontaminate=(str(place),)) for place in places)
    assert subset_identity(first, "train") == subset_identity(second, "train")
    places[1].write_text(json.dumps({"question": "row 12"}) + "\n")
    assert subset_identity(first, "train") != subset_identity(second, "train")
    assert subset_identity(replace(first, ngram=5), "train") != subset_identity(first, "train")
    assert subset_identity(Counted(ngram=5), "train") == subset_identity(Counted(), "train")


def test_nothing_left_is_one_sentence_with_the_numbers(passes):
    with pytest.raises(ValueError, match=r"no training rows \(1 left out as empty answer\)"):
        training_examples(Counted(name="rows", total=1))
    assert not (cache_dir() / "rows").exists()


def test_memory_is_a_few_bytes_a_row(passes):
    peaks = []
    for total in (2_000, 20_000):
        tracemalloc.start()
        for _ in training_examples(Counted(total=total, deduplicate=True, fraction=0.5)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 18_000 * 150
