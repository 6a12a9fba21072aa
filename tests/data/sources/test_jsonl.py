import json
from pathlib import Path

import pytest

from alps.data.example import DropCounts, Example
from alps.data.sources.jsonl import Jsonl
from alps.data.sources.table import Table


def source(tmp_path: Path, *rows, **changes) -> Jsonl:
    """Rows as given: bytes stay, anything else becomes JSON."""
    path = tmp_path / "rows.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return Jsonl(name="jsonl", path=str(path), **{"test_fraction": 0.0, **changes})


def rows(count: int) -> list[dict]:
    return [{"instruction": f"question {i}", "output": f"answer {i}"} for i in range(count)]


def test_rows_come_in_the_files_order(tmp_path):
    found = list(source(tmp_path, *rows(3)).examples("train"))
    assert found == [Example(instruction=f"question {i}", answer=f"answer {i}") for i in range(3)]


def test_field_names_can_be_chosen(tmp_path):
    fields = {"instruction_field": "q", "answer_field": "a", "input_field": "context"}
    (row,) = source(tmp_path, {"q": "Why?", "a": "So.", "context": "x"}, **fields).examples("train")
    assert row == Example(instruction="Why?\n\nx", answer="So.")


@pytest.mark.parametrize("empty", [{"input": ""}, {"input": None}, {}])
def test_an_empty_input_is_not_appended(tmp_path, empty):
    row = {"instruction": "Say a.", "output": "a", **empty}
    assert next(source(tmp_path, row).examples("train")).instruction == "Say a."


def test_the_input_is_appended_unless_it_is_switched_off(tmp_path):
    row = {"instruction": "Sum up.", "input": "A text.", "output": "Text."}
    (found,) = source(tmp_path, row).examples("train")
    assert found.instruction == "Sum up.\n\nA text."
    (found,) = source(tmp_path, row, input_field=None).examples("train")
    assert found.instruction == "Sum up."


OTHER = {"instruction": "q", "context": "c", "response": "a", "id": 3}
NAMES = {"answer_field": "response", "input_field": "context"}


def test_an_input_field_that_no_row_has_is_refused_with_those_nothing_reads(tmp_path, complaint):
    rows = [OTHER, {**OTHER, "note": "n"}]
    data = source(tmp_path, *rows, **{**NAMES, "input_field": "contxt"})
    assert complaint(data) == (
        f"no row of {data.path} has the field 'contxt': set data.input_field to null or to a text "
        "field that nothing reads (there is: context, note)"
    )
    alone = source(tmp_path, {"instruction": "q", "response": "a"}, **NAMES)
    assert complaint(alone).endswith("nothing reads (there is: none)")


def test_some_rows_may_lack_the_input_field(tmp_path):
    rows = [{"instruction": "q", "response": "a"}, OTHER]
    found = source(tmp_path, *rows, **NAMES).examples("train")
    assert [e.instruction for e in found] == ["q", "q\n\nc"]


def test_the_usual_input_field_is_used_where_there_is_one(tmp_path):
    fields = {"instruction_field": "input", "answer_field": "output"}
    data = source(tmp_path, {"input": "Why?", "output": "So."}, **fields)
    assert list(data.problems()) == []
    assert list(data.examples("train")) == [Example(instruction="Why?", answer="So.")]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"answer_field": "instruction"}, "data.instruction_field and data.answer_field are both"),
        ({"input_field": "instruction"}, "data.instruction_field and data.input_field are both"),
        ({"input_field": "output"}, "data.answer_field and data.input_field are both"),
    ],
)
def test_one_field_cannot_be_two_things(tmp_path, fields, said):
    (told,) = source(tmp_path, *rows(1), **fields).problems()
    assert told.startswith(said)


@pytest.mark.parametrize(
    ("instruction", "extra", "wanted"),
    [("", "in", None), (" \n", "in", None), ("q", " \n", "q"), ("q", "in", "q\n\nin")],
)
def test_jsonl_and_alpaca_make_the_same_of_a_row(tmp_path, instruction, extra, wanted):
    row = {"instruction": instruction, "input": extra, "output": "a"}
    own = source(tmp_path, row, rows(1)[0] | {"input": ""})
    alpaca = Table(name="alpaca", path=own.path, reader="alpaca", test_fraction=0.0)
    tallies = DropCounts(), DropCounts()
    found = [list(s.examples("train", t)) for s, t in zip((own, alpaca), tallies, strict=True)]
    assert found[0] == found[1]
    assert tallies[0] == tallies[1] == ({} if wanted else {"empty instruction": 1})
    assert [e.instruction for e in found[0]] == [*([wanted] if wanted else []), "question 0"]


@pytest.mark.parametrize("value", [0, False, [], {}, float("nan")])
def test_an_input_that_is_no_text_is_told_even_if_it_is_empty(tmp_path, value, complaint):
    data = source(tmp_path, {"instruction": "a", "input": value, "output": "b"})
    assert complaint(data) == f"row 1 of {data.path} has a field 'input' that is no text"


def test_blank_lines_are_skipped_but_counted(tmp_path, complaint):
    data = source(tmp_path, rows(1)[0], b"", b"  ", b"{")
    assert complaint(data).startswith(f"row 4 of {data.path} is not JSON")


def test_a_missing_field_is_named_with_row_and_remedy(tmp_path, complaint):
    data = source(tmp_path, rows(1)[0], {"prompt": "a", "completion": "b"})
    expected = "has no field 'instruction' (it has: prompt, completion)"
    assert complaint(data) == f"row 2 of {data.path} {expected}: set data.instruction_field"
    answer = source(tmp_path, {"instruction": "a"})
    assert "has no field 'output'" in complaint(answer)
    assert complaint(answer).endswith("set data.answer_field")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b'{"instruction": "\xff", "output": "b"}', "is not UTF-8 text"),
        (b"not json", "is not JSON"),
        (b'{"instruction": "a", "output": ', "is not JSON"),
        (["a", "b"], "is not a JSON object"),
        ({"instruction": "a", "output": 3}, "has a field 'output' that is no text"),
        ({"instruction": "a", "input": ["x"], "output": "b"}, "field 'input'"),
        ({"instruction": "\ud800", "output": "b"}, "field 'instruction'"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_sentence_with_its_number(
    tmp_path, row, problem, complaint
):
    data = source(tmp_path, rows(1)[0], row)
    assert complaint(data).startswith(f"row 2 of {data.path} ")
    assert problem in complaint(data)


def test_rows_with_an_empty_part_are_left_out_and_counted(tmp_path):
    empty = [{"instruction": "a", "output": ""}, {"instruction": "a", "output": " \n"}]
    empty += [{"instruction": "", "output": "b"}, {"instruction": "a", "output": None}]
    tally = DropCounts()
    data = source(tmp_path, rows(1)[0], *empty, test_fraction=0)
    assert len(list(data.examples("train", tally))) == 1
    assert tally == {"empty answer": 3, "empty instruction": 1}


def test_a_byte_order_mark_is_no_trouble(tmp_path):
    marked = b"\xef\xbb\xbf" + json.dumps(rows(1)[0]).encode()
    assert next(source(tmp_path, marked).examples("train")).instruction == "question 0"


def test_the_splits_share_no_row_and_lose_none(tmp_path):
    data = source(tmp_path, *rows(400), test_fraction=0.25)
    train, test = ([e.instruction for e in data.examples(s)] for s in ("train", "test"))
    assert sorted(train + test) == sorted(row["instruction"] for row in rows(400))
    assert 60 <= len(test) <= 140


def test_the_split_never_moves_when_rows_come_or_go(tmp_path):
    few = source(tmp_path, *rows(100)[::2], test_fraction=0.25)
    before = {split: {e.instruction for e in few.examples(split)} for split in ("train", "test")}
    many = source(tmp_path, *reversed(rows(100)), test_fraction=0.25)
    for split, members in before.items():
        assert members and members < {e.instruction for e in many.examples(split)}


def test_a_row_that_stands_twice_is_never_in_both_splits(tmp_path):
    data = source(tmp_path, *rows(50), *rows(50), test_fraction=0.5)
    train, test = ({e.instruction for e in data.examples(s)} for s in ("train", "test"))
    assert train and test and not train & test


def test_without_a_test_fraction_nothing_is_held_out(tmp_path):
    assert list(source(tmp_path, *rows(50)).examples("test")) == []


def test_the_fingerprint_is_the_files_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    data = source(tmp_path, *rows(2))
    assert source(tmp_path / "a", *rows(2)).fingerprint() == data.fingerprint()
    assert source(tmp_path / "b", *rows(3)).fingerprint() != data.fingerprint()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"path": None}, "data=jsonl needs a file: set data.path=<file.jsonl>"),
        ({"path": "/no/such"}, "data.path=/no/such does not exist"),
        (
            {"path": __file__, "test_fraction": 1.0},
            "data.test_fraction must lie in [0, 1), got 1.0",
        ),
        ({"path": __file__, "fraction": 2.0}, "data.fraction must lie in (0, 1], got 2.0"),
    ],
)
def test_settings_that_cannot_be_used_are_told(changes, problem):
    assert list(Jsonl(name="jsonl", **changes).problems()) == [problem]
