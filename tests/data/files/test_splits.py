"""Splits are told by names as `datasets` tells them; what would count twice is refused."""

import json
import zipfile
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from datasets.data_files import DataFilesDict, get_data_patterns

from alps.data.files.read import read_rows
from alps.data.files.splits import split_files

LAYOUTS = [
    ["train.jsonl", "validation.jsonl", "test.jsonl"],
    ["train_0.jsonl", "train_1.jsonl", "test_0.jsonl"],
    ["training.jsonl", "valid.jsonl", "testing.jsonl"],
    ["a-train.jsonl", "a dev.jsonl", "a.eval.v2.jsonl", "val2.jsonl", "evaluation.jsonl"],
    ["data/train.jsonl", "data/test.jsonl"],
    ["data/train/a.jsonl", "data/train/b.jsonl", "data/test/a.jsonl"],
    ["train/a_test.jsonl", "my-test-set/b.jsonl"],
    ["data/train_sft-00000-of-00002-a3.jsonl", "data/train_sft-00001-of-00002-b4.jsonl",
     "data/test_sft-00000-of-00001.jsonl", "data/random-00000-of-00001.jsonl"],
    ["a.jsonl", "b/contest.jsonl", "b/trained.jsonl", "latest/c.jsonl"],
    ["train-test.jsonl", "test.jsonl"],
]  # fmt: skip


def write(folder: Path, names: list[str]) -> Path:
    """Files of one row each, which says its file's name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"instruction": name, "output": "x"}) + "\n")
    return folder


def archive(path: Path, members: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, json.dumps({"instruction": name, "output": "x"}))
    return path


def read(path: Path, split: str = "train", patterns: tuple[str, ...] = ()) -> list[str]:
    """The names of the files that were read."""
    files = split_files(path, patterns, split)
    return [r["instruction"] for f in files for _, r in read_rows(f.path, members=f.members)]


@pytest.mark.parametrize("names", LAYOUTS, ids=lambda names: names[0])
def test_the_split_of_each_file_is_that_of_datasets(tmp_path, names):
    write(tmp_path, names)
    patterns = get_data_patterns(str(tmp_path))
    reference = DataFilesDict.from_patterns(patterns, base_path=str(tmp_path))
    assert len(reference) >= 1
    for split, files in reference.items():
        wanted = sorted(Path(file).relative_to(tmp_path).as_posix() for file in files)
        assert read(tmp_path, str(split)) == wanted
    has = ", ".join(sorted(map(str, reference)))
    with pytest.raises(ValueError) as error:
        read(tmp_path, "other")
    assert str(error.value) == f"{tmp_path} has no split 'other' (it has: {has}): set data.split"


def test_a_file_that_names_no_split_beside_one_that_does_is_of_the_training_split(tmp_path):
    write(tmp_path, ["rows.jsonl", "TEST.jsonl", "more/rows.jsonl"])
    assert read(tmp_path) == ["more/rows.jsonl", "rows.jsonl"]
    assert read(tmp_path, "test") == ["TEST.jsonl"]


def test_a_folder_without_training_rows_is_refused(tmp_path):
    write(tmp_path, ["validation.jsonl", "test.jsonl"])
    with pytest.raises(ValueError, match=r"no split 'train' \(it has: test, validation\)"):
        read(tmp_path)


def test_a_file_that_was_named_holds_training_rows_whatever_its_name_says(tmp_path):
    file = write(tmp_path, ["test.jsonl"]) / "test.jsonl"
    assert read(file) == read(file, "test") == ["test.jsonl"]
    with pytest.raises(ValueError, match=r"no split 'validation' \(it has: test\)"):
        read(file, "validation")
    plain = write(tmp_path, ["rows.jsonl"]) / "rows.jsonl"
    with pytest.raises(ValueError, match=r"no split 'test' \(it has: train\)"):
        read(plain, "test")


def test_patterns_that_fit_one_split_name_the_training_rows(tmp_path):
    write(tmp_path, LAYOUTS[7])
    sharded = ("data/train_sft-*",)
    assert len(read(tmp_path, "train", sharded)) == len(read(tmp_path, "train_sft", sharded)) == 2
    for split, patterns in [("train", ("data/*",)), ("test_sft", sharded)]:
        with pytest.raises(ValueError, match=f"has no split '{split}'"):
            read(tmp_path, split, patterns)
    assert read(tmp_path, "test_sft", ("data/*",)) == LAYOUTS[7][2:3]


def test_members_of_an_archive_are_of_splits_too(tmp_path):
    path = archive(tmp_path / "test.zip", ["a/train.json", "a/test.json", "rest.json"])
    assert read(path) == ["a/train.json", "rest.json"]
    assert read(path, "test") == ["a/test.json"]
    with pytest.raises(ValueError, match=r"no split 'validation' \(it has: test, train\)"):
        read(path, "validation")
    (one,) = read(archive(tmp_path / "one.zip", ["test.json"]))
    assert one == "test.json", "an archive of one file is like that file"
    in_folder = tmp_path / "folder"
    in_folder.mkdir()
    archive(in_folder / "test.zip", ["rest.json"])
    archive(in_folder / "rows.zip", ["train.json", "dev.json"])
    assert [read(in_folder, s) for s in ("train", "test", "validation")] == [
        ["train.json"], ["rest.json"], ["dev.json"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "members"),
    [
        (["rows.jsonl", "rows.jsonl.gz"], []),
        (["a/rows.json", "a/rows.parquet"], []),
        (["data/train-00000-of-00001.jsonl", "raw.jsonl"], []),
        (["rows.json"], ["rows.json"]),
        (["packed/1/rows.json"], ["1/rows.json"]),
        (["1/rows.jsonl"], ["1/rows.json"]),
        ([], ["rows.json", "rows.csv"]),
    ],
)
def test_files_that_may_hold_the_same_rows_are_refused(tmp_path, names, members):
    write(tmp_path, names)
    if members:
        archive(tmp_path / "packed.zip", members)
        names = [*names, *(f"packed.zip/{member}" for member in members)]
    with pytest.raises(ValueError) as error:
        split_files(tmp_path, (), "train")
    said = str(error.value)
    assert all(name in said for name in names) and said.count("\n") == 0
    assert said.endswith("remove one of them, or name the files to read in data.files")
    if not members:
        assert read(tmp_path, "train", (names[0],)) == names[:1]


def test_the_same_rows_in_another_split_are_not_counted_twice(tmp_path):
    write(tmp_path, ["data/train-00000-of-00001.jsonl", "test.jsonl", "test.jsonl.gz"])
    assert read(tmp_path) == ["data/train-00000-of-00001.jsonl"]


def test_a_saved_dataset_gives_its_rows(tmp_path):
    rows = [{"instruction": f"question {i}"} for i in range(30)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=3)
    assert read(tmp_path / "saved") == [row["instruction"] for row in rows]
    with pytest.raises(ValueError, match=r"no split 'test' \(it has: train\)"):
        read(tmp_path / "saved", "test")
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state.json is damaged .*: save the dataset again"):
        read(tmp_path / "saved")


def test_of_a_saved_dataset_with_splits_one_is_read(tmp_path):
    parts = {name: Dataset.from_list([{"instruction": name}]) for name in ("train_sft", "test_sft")}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved", "test_sft") == ["test_sft"]
    with pytest.raises(ValueError, match=r"no split 'train' \(it has: test_sft, train_sft\)"):
        read(tmp_path / "saved")
    DatasetDict(validation=parts["test_sft"]).save_to_disk(tmp_path / "one")
    with pytest.raises(ValueError, match=r"no split 'train' \(it has: validation\)"):
        read(tmp_path / "one")
    assert read(tmp_path / "one" / "validation") == ["test_sft"], "a folder that was named"


def test_a_file_that_is_named_is_read(tmp_path):
    write(tmp_path, ["train.jsonl", "test.jsonl"])
    assert read(tmp_path, patterns=("*.jsonl",)) == ["train.jsonl"]
    with pytest.raises(ValueError, match=r"^test.jsonl of data.files is not of split 'train'"):
        read(tmp_path, patterns=("train.jsonl", "test.jsonl"))
    with pytest.raises(ValueError, match=r"is named trian-2.jsonl: see data.files$"):
        read(tmp_path, patterns=("train.jsonl", "trian-2.jsonl"))


def test_a_link_beside_its_file_is_refused(tmp_path):
    write(tmp_path, ["rows.jsonl"])
    (tmp_path / "again.jsonl").symlink_to("rows.jsonl")
    with pytest.raises(ValueError, match=r"again.jsonl and rows.jsonl, whose rows may be the same"):
        read(tmp_path)
    assert read(tmp_path, patterns=("rows.jsonl",)) == ["rows.jsonl"]
