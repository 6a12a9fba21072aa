"""Every kind of file gives the same rows, and every kind of damage is one sentence."""

import csv
import gzip
import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from alps.data.files.read import content_hash, read_rows, row_files

ROWS = [{"instruction": f'Frage {i} für Zoë,\n"wörtlich"', "output": "x" * i} for i in range(600)]
LINES = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(ROWS))


def write_csv(path: Path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


def write_zip(path: Path, members: dict[str, str]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


WRITERS = {
    "rows.jsonl": lambda p: p.write_text(LINES),
    "rows.txt": lambda p: p.write_text(LINES),
    "lines.json": lambda p: p.write_text("\n" + LINES),
    "list.json": lambda p: p.write_text(json.dumps(ROWS)),
    "pretty.json": lambda p: p.write_text("\ufeff\n " + json.dumps(ROWS, indent=2) + "\n"),
    "rows.jsonl.gz": lambda p: p.write_bytes(gzip.compress(LINES.encode())),
    "list.json.gz": lambda p: p.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "rows.csv": write_csv,
    "rows.parquet": lambda p: parquet.write_table(
        pa.Table.from_pylist(ROWS), p, row_group_size=250
    ),
    "list.zip": lambda p: write_zip(
        p, {"a/2.json": json.dumps(ROWS[9:]), "a/1.json": json.dumps(ROWS[:9])}
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    found = list(read_rows(tmp_path / name))
    assert [row for _, row in found] == ROWS
    assert len({place for place, _ in found}) == len(ROWS)
    assert all(place.startswith("row ") and name in place for place, _ in found)


@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("lines.json", "list.zip")])
def test_rows_are_numbered_from_one(tmp_path, name):
    WRITERS[name](tmp_path / name)
    places = [place for place, _ in read_rows(tmp_path / name, "NAME")]
    assert places == [f"row {i} of NAME" for i in range(1, 601)]


def test_a_parquet_file_is_known_by_its_content(tmp_path):
    WRITERS["rows.parquet"](tmp_path / "blob")
    assert [row for _, row in read_rows(tmp_path / "blob")] == ROWS


def test_nested_columns_stay_nested(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "ä"}, {"role": "assistant", "content": ""}]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert [row for _, row in read_rows(tmp_path / "rows.parquet")] == rows


def test_a_zip_of_single_objects_is_read_in_the_order_of_names(tmp_path):
    texts = {f"math/{i:03}.json": json.dumps(row, indent=4) for i, row in enumerate(ROWS[:40])}
    shuffled = random.Random(0).sample(list(texts.items()), 40)
    others = {"__MACOSX/math/._000.json": "\0", "math/.x.json": "\0", "README.md": "", "math/": ""}
    write_zip(tmp_path / "math.zip", others | dict(shuffled))
    found = list(read_rows(tmp_path / "math.zip", "math.zip"))
    assert [row for _, row in found] == ROWS[:40]
    assert found[7][0] == "row 1 of math/007.json in math.zip"


def test_the_unpacked_zip_gives_the_same_rows(tmp_path):
    texts = {f"{i % 7}/{i:03}.json": json.dumps(row) for i, row in enumerate(ROWS[:40])}
    write_zip(tmp_path / "math.zip", texts)
    with zipfile.ZipFile(tmp_path / "math.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    files = row_files(tmp_path / "unpacked")
    unpacked = [row for file in files for _, row in read_rows(file)]
    assert unpacked == [row for _, row in read_rows(tmp_path / "math.zip")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", b'[{"a": 1}, {"a": 2} {"a": 3}]', "row 3 of {} is not JSON (there is no ','"),
        ("a.json", b'[{"a": 1}, {"a": "\xff"}]', "row 2 of {} is not UTF-8 text"),
        ("a.json", b'[{"a": 1}, {"a": ', "row 2 of {} is not JSON (Expecting value)"),
        ("a.json", b'[{"a": 1}', "row 2 of {} is cut off: the file ends before its list does"),
        ("a.json", b'[{"a": 1}, [2]]', "row 2 of {} is not a JSON object"),
        ("a.json", b'[{"a": 1}, nul]', "row 2 of {} is not JSON"),
        ("a.json", b'[{"a": 1}] x', "{} goes on after the end of its list"),
        ("a.json", b'{"a": 1', "row 1 of {} is not JSON"),
        ("a.json", b'{"a": 1}\n{"a"}\n', "row 2 of {} is not JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "row 2 of {} is not UTF-8 text"),
        ("a.csv", b"a,b\n1,2\n3,\xff\n", "row 2 of {} is not UTF-8 text"),
        ("a.csv", b"a,b\n1,2\n3\n", "row 2 of {} has not as many fields as the header"),
        ("a.csv", b"a,b\n1,2,3\n", "row 1 of {} has not as many fields as the header"),
        ("a.csv", b'a,b\n1,2\n3,"4', "row 2 of {} is not CSV"),
        ("a.csv", b"a,b,b\n1,2,3\n", "{} has 2 columns named 'b': rename all but one"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n',
            "row 2 of {} has two fields named 'a'",
        ),
        ("a.jsonl", b'{"a": {"b": 1, "b": 1}}\n', "row 1 of {} has two fields named 'b'"),
        ("a.json", b'[{"a": 1}, {"a": 1, "a": 1}]', "row 2 of {} has two fields named 'a'"),
        ("a.json", b'{"a": 1,\n"a": 1}', "row 1 of {} has two fields named 'a'"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:900], "{} is damaged"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00" + b"?" * 90, "{} is damaged"),
        ("a.zip", b"PK\x03\x04 no zip", "{} is damaged"),
        ("a.parquet", b"PAR1 no parquet", "{} is damaged"),
        ("a.arrow", b"no arrow at all", "{} is damaged"),
    ],
)
def test_damage_is_one_sentence_with_its_place(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        list(read_rows(tmp_path / name, "NAME"))
    assert type(error.value) is ValueError
    assert str(error.value).startswith(problem.format("NAME"))
    assert "\n" not in str(error.value)


def test_rows_before_the_damage_are_given(tmp_path):
    (tmp_path / "a.json").write_bytes(json.dumps(ROWS).encode()[:-1] + b', {"a": "\xff"}]')
    rows = read_rows(tmp_path / "a.json", "NAME")
    assert [next(rows)[1] for _ in ROWS] == ROWS
    with pytest.raises(ValueError, match="row 601 of NAME is not UTF-8 text"):
        next(rows)


def test_text_of_a_parquet_file_that_is_not_utf_8_is_told_with_its_row(tmp_path):
    texts = pa.array([b"good"] * 300 + [b"\xff"]).view(pa.string())
    parquet.write_table(pa.table({"instruction": texts}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 301 of NAME is not UTF-8 text"):
        list(read_rows(tmp_path / "a.parquet", "NAME"))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_told(tmp_path, kind):
    table, path = pa.table([["x"], ["first"], ["second"]], names=["a", "b", "b"]), tmp_path / "rows"
    path = path.with_suffix(f".{kind}")
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(ValueError, match=r"^NAME has 2 columns named 'b': rename all but one$"):
        list(read_rows(path, "NAME"))


def test_two_fields_of_one_name_inside_a_column_are_told(tmp_path):
    pair = pa.StructArray.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    with (tmp_path / "rows.arrow").open("wb") as file:
        table = pa.table({"messages": pair})
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(ValueError, match=r"^NAME cannot be read \(.*duplicate field names"):
        list(read_rows(tmp_path / "rows.arrow", "NAME"))


def test_columns_without_a_name_are_no_trouble(tmp_path):
    """A spreadsheet writes them behind the last column."""
    (tmp_path / "a.csv").write_text("a,b,,\n1,2,,\n")
    assert [row["b"] for _, row in read_rows(tmp_path / "a.csv")] == ["2"]


def test_a_zip_without_rows_or_with_a_broken_member_is_told(tmp_path):
    write_zip(tmp_path / "a.zip", {"README.md": "none"})
    with pytest.raises(ValueError, match=r"a.zip has no .json, .jsonl or .csv file in it"):
        list(read_rows(tmp_path / "a.zip"))
    write_zip(tmp_path / "b.zip", {"1.jsonl": LINES[: LINES.index("\n", 500) + 1]})
    data = bytearray((tmp_path / "b.zip").read_bytes())
    data[data.index(b"output")] ^= 1  # stored, not compressed: only the sum tells
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"^1.jsonl in NAME is damaged \(Bad CRC-32"):
        list(read_rows(tmp_path / "b.zip", "NAME"))


@pytest.mark.parametrize("name", ["rows.jsonl", "list.json", "rows.csv", "rows.jsonl.gz"])
def test_memory_does_not_grow_with_the_rows(tmp_path, name):
    few, many = (peak_bytes(tmp_path / f"{n}-{name}", n) for n in (2_000, 40_000))
    assert many < few * 1.5 + 200_000  # the larger file has 5 MB of text


def peak_bytes(path: Path, count: int) -> int:
    """Most memory that Python's objects took while so many rows were read."""
    row = {"instruction": "Frage " * 8, "output": "Antwort " * 8}
    line = json.dumps(row)
    if path.name.endswith(".csv"):
        path.write_text("instruction,output\n" + (",".join(row.values()) + "\n") * count)
    elif path.name.endswith(".json"):
        path.write_text("[" + ",".join([line] * count) + "]")
    else:
        text = (line + "\n").encode() * count
        path.write_bytes(gzip.compress(text, 1) if path.name.endswith(".gz") else text)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_row_longer_than_a_chunk_is_whole(tmp_path):
    rows = [{"output": "ü" * 300_000}, {"output": "b"}]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert [row for _, row in read_rows(tmp_path / "a.json")] == rows
    (tmp_path / "a.csv").write_text("output\n" + "ü" * 300_000 + "\nb\n")
    assert [row for _, row in read_rows(tmp_path / "a.csv")] == rows


def test_the_field_limit_of_the_csv_module_stays(tmp_path):
    (tmp_path / "a.csv").write_text("output\n" + "a" * 300_000 + "\nb\n")
    before = csv.field_size_limit()
    rows = read_rows(tmp_path / "a.csv")
    assert len(next(rows)[1]["output"]) == 300_000 and csv.field_size_limit() == before


@pytest.mark.parametrize("content", ["", " \n", "[]", " [ ] "])
def test_a_file_without_rows_has_none(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert list(read_rows(tmp_path / "a.json")) == []


def folder(tmp_path: Path) -> Path:
    names = ("data/train-1.jsonl", "data/train-0.jsonl", "data/test-0.jsonl", "README.md")
    for name in (*names, ".cache/x.jsonl", "dataset_infos.json", "data/.hidden.json"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(LINES)
    return tmp_path / "set"


def test_in_a_folder_files_with_rows_are_found_in_the_order_of_names(tmp_path):
    path = folder(tmp_path)
    names = [file.relative_to(path).as_posix() for file in row_files(path)]
    assert names == ["data/test-0.jsonl", "data/train-0.jsonl", "data/train-1.jsonl"]
    names = [file.name for file in row_files(path, ("data/train-*",))]
    assert names == ["train-0.jsonl", "train-1.jsonl"]


def test_a_folder_without_rows_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"no file in .*set matches dev-\*"):
        row_files(folder(tmp_path), ("dev-*",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file in .*empty ends in \.parquet, "):
        row_files(tmp_path / "empty")


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(ValueError, match="NAME cannot be read"):
        list(read_rows(tmp_path / "none.json", "NAME"))


def test_the_hash_of_a_folder_is_that_of_its_names_and_contents(tmp_path):
    (tmp_path / "there").mkdir()
    here, there = folder(tmp_path), folder(tmp_path / "there")
    first = content_hash(here, row_files(here))
    assert content_hash(there, row_files(there)) == first
    assert content_hash(here, row_files(here)) == first  # remembered
    assert content_hash(here, row_files(here, ("data/train-*",))) != first
    (there / "data" / "train-0.jsonl").rename(there / "data" / "train-9.jsonl")
    assert content_hash(there, row_files(there)) != first
    (here / "data" / "train-0.jsonl").write_text(LINES.replace("Zoë", "Zoé"))
    assert content_hash(here, row_files(here)) != first
