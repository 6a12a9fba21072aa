"""The reader that Alpaca and CodeAlpaca share."""

import json

import pytest

from alps.config.build import build, compose_config
from alps.data.example import DropCounts, Example
from alps.data.readers.alpaca import read
from alps.data.sources.table import Row

ROW = {
    "instruction": "Sort these words.",
    "input": "pear, apple",
    "output": "apple, pear",
    "text": "Below is an instruction ...",  # Alpaca has it, CodeAlpaca hasn't
}
ALONE = {"output": "print(1)", "instruction": "Print one.", "input": ""}


def test_the_input_is_appended():
    wanted = Example(instruction="Sort these words.\n\npear, apple", answer="apple, pear")
    assert read(Row(ROW)) == wanted


def test_an_empty_input_is_not():
    assert read(Row(ALONE)) == Example(instruction="Print one.", answer="print(1)")


@pytest.mark.parametrize("name", ["alpaca", "codealpaca"])
def test_both_sets_read_their_rows_and_count_empty_ones(tmp_path, name):
    rows = [
        ROW,
        ALONE,
        {**ROW, "output": ""},
        {**ROW, "instruction": " "},
        {**ALONE, "output": " "},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    path = f"data.path={tmp_path}/rows.json"
    data = build(compose_config([f"data={name}", path, "data.test_fraction=0"])).data
    tally = DropCounts()
    assert [e.answer for e in data.examples("train", tally)] == ["apple, pear", "print(1)"]
    assert tally == {"empty answer": 2, "empty instruction": 1}
