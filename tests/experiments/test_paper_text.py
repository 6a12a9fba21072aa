"""The CSV files read the paper's text right, which the environment variable ALPS_PAPER names."""

import os
import re
from itertools import groupby
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif("ALPS_PAPER" not in os.environ, reason="needs ALPS_PAPER")
CELLS = {  # where a line's numbers stand, between tabs; what comes before are labels
    "table1": slice(3, None), "table2": slice(3, None), "table3": slice(2, None),
    "table4": slice(2, None), "table5": slice(2, None), "table6": slice(2, None),
    "table7": slice(2, 3), "table10": slice(2, None), "table11": slice(2, None),
    "table12": slice(2, None), "table13": slice(2, None), "table14": slice(4, None),
}  # fmt: skip
EIGHT = "IFEval GPQA GSM8K MATH HEval HEval+ MBPP MBPP+"
TASKS = "General Math Code"
HEADERS = {
    "table1": EIGHT, "table2": EIGHT, "table3": EIGHT, "table4": TASKS, "table5": "MMLU ARC-C",
    "table10": "GSM8K MATH HEval HEval+ MBPP MBPP+", "table12": TASKS, "table13": "MMLU ARC-C",
    "table14": EIGHT,
}  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The text, counted from 1."""
    return ["", *Path(os.environ["ALPS_PAPER"]).read_text(encoding="utf-8").split("\n")]


def body(lines: list[str], table: str) -> list[int]:
    """The lines of a table: what has tabs above its caption, past one blank line."""
    caption = next(i for i, line in enumerate(lines) if line.startswith(f"Table {table[5:]}: "))
    last = next(i for i in range(caption - 1, 0, -1) if lines[i])
    first = next(i for i in range(last, 0, -1) if "\t" not in lines[i]) + 1
    return list(range(first, last + 1))


def bare(text: str) -> str:
    """Without space and without the extraction's marks of bold and italic."""
    return re.sub(r"</?[bi]>|\s", "", text)


def plain(label: str) -> str:
    """A label without the extraction's TeX and spaces."""
    return re.sub(r"\\math\w+|\\(?=theta)|[${}\s]", "", label).replace("theta", "θ")


@pytest.mark.parametrize("table", CELLS)
def test_a_line_s_numbers_are_its_cells_in_order(lines, tables, table):
    for line, cells in groupby(tables[table], key=lambda c: int(c["line"])):
        told = bare("".join(lines[line].split("\t")[CELLS[table]]))
        assert told == "".join(c["printed"] for c in cells), f"line {line}"


@pytest.mark.parametrize("table", CELLS)
def test_every_line_with_numbers_is_there_once(lines, tables, table):
    first = {i: "".join(lines[i].split("\t")[CELLS[table]][:1]) for i in body(lines, table)}
    printed = [i for i, text in first.items() if re.match(r"(\d+\.\d|\d+k?$)", text)]
    assert [n for n, _ in groupby(int(c["line"]) for c in tables[table])] == printed


@pytest.mark.parametrize("table", CELLS)
def test_the_labels_are_those_of_the_line(lines, tables, table):
    for cell in tables[table]:
        told = plain(lines[int(cell["line"])])
        model, *labels = cell["row"].split(", ")
        if table in ("table6", "table7"):
            labels = [model, *labels]
        for label in labels:
            assert plain(label) in told, cell
        if legible := re.search(r"Llama-(\d\.\d-\dB)|^(\dB-\w\w)", told):
            assert model.endswith(legible[1] or legible[2]), cell


@pytest.mark.parametrize("table", HEADERS)
def test_the_columns_are_those_of_the_header(lines, tables, table):
    header = " ".join("\n".join(lines[i] for i in body(lines, table)[:2]).split())
    assert HEADERS[table] in header
    columns = [c["column"] for c in tables[table] if not c["column"].startswith("Avg")]
    assert columns == HEADERS[table].split() * len({c["row"] for c in tables[table]})


def test_models_follow_each_other(tables, lines):
    for table in CELLS:
        order = [m for m, _ in groupby(c["model"] for c in tables[table])]
        assert order == ["llama3_2_1b", "llama3_2_3b", "llama3_1_8b"][: len(order)] or order == [""]
    marked = [i for i in body(lines, "table10") if "3.2-" in lines[i]]
    first = [min(int(c["line"]) for c in tables["table10"] if c["model"].endswith(size))
             for size in ("1b", "3b")]  # fmt: skip
    assert [i + 1 for i in marked] == first


def test_claims_stand_on_their_lines(lines, read):
    for claim in read("claims.csv"):
        told = " ".join(lines[int(claim["line"])].split())
        assert claim["printed"] in told, claim
