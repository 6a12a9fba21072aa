import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import List, Value

from alps.base import progress as encode_progress
from alps.base.cache import cache_dir
from alps.data.encoding import dataset as module
from alps.data.encoding.dataset import (
    EncodedDataset,
    context_warning,
    effective_max_length,
    encoded_dataset,
)
from alps.data.encoding.encode import EncodedExample, encode_example
from alps.data.sources.jsonl import Jsonl
from alps.data.sources.mini import Mini
from alps.data.subset import training_examples
from alps.models.byte_tokenizer import byte_tokenizer

SOURCE = Mini(name="mini_math", generator="mini_math", max_examples=300, max_length=512)


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """Notes each build, in a test with a cache of its own."""
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    found = []
    build = module._build
    monkeypatch.setattr(module, "_build", lambda *a: found.append(a[0]) or build(*a))
    return found


def write(path, rows) -> Jsonl:
    lines = (json.dumps({"instruction": i, "output": o}) + "\n" for i, o in rows)
    path.write_text("".join(lines))
    return Jsonl(name="rows", path=str(path), test_fraction=0.0, template="plain", max_length=20)


@pytest.mark.parametrize("template", ["alpaca", "plain", "chat"])
def test_rows_are_those_of_the_source_each_encoded(builds, template):
    source, tokenizer = replace(SOURCE, template=template), byte_tokenizer()
    rows = encoded_dataset(source, tokenizer)
    expected = [encode_example(e, tokenizer, template) for e in training_examples(source)]
    assert list(rows) == expected and len(rows) == 300
    assert rows.lengths.tolist() == [len(row.ids) for row in expected]
    assert rows.num_answers.tolist() == [row.num_answer_tokens for row in expected]
    assert rows[-1] == expected[-1] and rows[3:5] == expected[3:5]
    assert (rows.num_dropped, rows.num_truncated) == (0, 0)
    with pytest.raises(IndexError):
        rows[300]


def test_rows_in_memory_look_the_same():
    plain = [EncodedExample([1, 2, 3], 1), EncodedExample([4, 70000], 1)]
    rows = EncodedDataset.of(plain)
    assert list(rows) == plain
    assert (rows.lengths.tolist(), rows.num_answers.tolist()) == ([3, 2], [2, 1])
    assert list(EncodedDataset.of([])) == [] and EncodedDataset.of([]).lengths.shape == (0,)


def test_rows_are_mapped_not_read(builds):
    rows = encoded_dataset(SOURCE, byte_tokenizer())
    assert rows._dataset.features["ids"] == List(Value("uint16"))
    (buffer,) = {Path(file["filename"]) for file in rows._dataset.cache_files}
    assert buffer.is_relative_to(builds[0])


def test_ids_beyond_16_bits_are_kept(builds):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(2**16)])
    source = replace(SOURCE, max_examples=3)
    rows = encoded_dataset(source, tokenizer)
    assert rows._dataset.features["ids"] == List(Value("uint32"))
    assert list(rows) == [encode_example(e, tokenizer, "alpaca") for e in training_examples(source)]


def test_worker_processes_encode_the_same(builds, monkeypatch):
    expected = list(encoded_dataset(SOURCE, byte_tokenizer()))
    monkeypatch.setenv("ALPS_CACHE_DIR", str(builds[0].parents[1] / "other"))
    monkeypatch.setenv("ALPS_NUM_PROC", "2")
    monkeypatch.setattr("alps.data.encoding.mapped.SMALL", 10)
    assert list(encoded_dataset(SOURCE, byte_tokenizer())) == expected and len(builds) == 2


def test_the_same_rows_are_encoded_once(builds):
    first = encoded_dataset(SOURCE, byte_tokenizer())
    again = encoded_dataset(replace(SOURCE, name="other", batching="padded"), byte_tokenizer())
    assert len(builds) == 1 and list(again) == list(first)


def other_tokenizer(change: str):
    tokenizer = byte_tokenizer()
    if change == "chat":
        tokenizer.chat_template = f"{tokenizer.chat_template}{{# of other rows, perhaps #}}"
    elif change == "vocabulary":
        tokenizer.add_tokens(["boxes"])
    else:
        tokenizer.eos_token = "<pad>"
    return tokenizer


@pytest.mark.parametrize(
    "changes",
    [
        {"template": "plain"}, {"max_length": 511}, {"too_long": "drop"}, {"max_examples": 299},
        {"subset_seed": 1}, {"deduplicate": True},
    ],
)  # fmt: skip
def test_other_settings_are_another_entry(builds, changes):
    encoded_dataset(SOURCE, byte_tokenizer())
    encoded_dataset(replace(SOURCE, **changes), byte_tokenizer())
    assert len(set(builds)) == 2


@pytest.mark.parametrize(
    ("change", "template"), [("chat", "chat"), ("vocabulary", "alpaca"), ("end", "alpaca")]
)
def test_another_tokenizer_is_another_entry(builds, change, template):
    source = replace(SOURCE, template=template)
    encoded_dataset(source, byte_tokenizer())
    encoded_dataset(source, other_tokenizer(change))
    assert len(set(builds)) == 2


def test_a_chat_template_counts_only_where_it_is_used(builds):
    encoded_dataset(SOURCE, byte_tokenizer())
    encoded_dataset(SOURCE, other_tokenizer("chat"))
    assert len(builds) == 1


def test_the_file_counts_with_its_content(builds, tmp_path):
    source = write(tmp_path / "rows.jsonl", [("a", "b")])
    assert len(encoded_dataset(source, byte_tokenizer())) == 1
    encoded_dataset(write(tmp_path / "same.jsonl", [("a", "b")]), byte_tokenizer())
    assert len(builds) == 1
    source = write(tmp_path / "rows.jsonl", [("a", "c"), ("d", "e")])
    assert [row.ids for row in encoded_dataset(source, byte_tokenizer())][1][0] != 0
    assert len(builds) == 2


def test_rows_that_were_cut_or_left_out_are_counted(builds, tmp_path):
    rows = [("ab", "x" * n) for n in (5, 15, 16, 17, 99)] + [("a" * 50, "x"), ("ab", "x" * 5)]
    source = replace(write(tmp_path / "rows.jsonl", rows), deduplicate=True)
    for _ in range(2):  # built, and from the cache
        found = encoded_dataset(source, byte_tokenizer())
        assert found.lengths.tolist() == [9, 19, 20, 20, 20]
        assert found.num_truncated == 2
        assert (found.dropped, found.num_dropped) == ({"too long": 1, "duplicate": 1}, 2)
    dropped = encoded_dataset(replace(source, too_long="drop"), byte_tokenizer())
    assert dropped.lengths.tolist() == [9, 19, 20] and dropped.num_truncated == 0
    assert dropped.dropped == {"too long": 3, "duplicate": 1}


def test_no_row_that_fits_is_one_sentence_and_leaves_nothing(builds, tmp_path):
    source = write(tmp_path / "rows.jsonl", [("ab", "x" * 30), ("cd", "x" * 40)])
    with pytest.raises(ValueError, match=r"none of the 2 rows fits data\.max_length=20 tokens"):
        encoded_dataset(source, byte_tokenizer())
    assert not list((cache_dir() / "encoded").iterdir())


@pytest.mark.parametrize("too_long", ["truncate", "drop"])
def test_a_row_beyond_the_models_context_is_too_long(builds, tmp_path, too_long):
    rows = [("ab", "x" * n) for n in (5, 12, 30)] + [("a" * 30, "x")]
    source = replace(write(tmp_path / "rows.jsonl", rows), max_length=100, too_long=too_long)
    found = encoded_dataset(source, byte_tokenizer(), context=16)
    expected = encoded_dataset(replace(source, max_length=16), byte_tokenizer())
    assert list(found) == list(expected) and len(builds) == 1, "the same rows, built once"
    assert found.lengths.max() == {"truncate": 16, "drop": 16}[too_long]
    changed = found.num_truncated + found.dropped["too long"]
    assert changed == 2
    assert context_warning(found, source, 16) == (
        "data=rows: 2 rows are longer than the model's context of 16 tokens and were cut to it or "
        "left out, as if data.max_length=100 were 16"
    )
    assert context_warning(found, replace(source, max_length=16), 16) is None, (
        "nobody asked for more"
    )
    assert context_warning(encoded_dataset(source, byte_tokenizer()), source, None) is None
    assert effective_max_length(source, None) == effective_max_length(source, 200) == 100


def test_no_row_that_fits_the_context_names_both_numbers(builds, tmp_path):
    source = replace(write(tmp_path / "rows.jsonl", [("ab", "x" * 30)]), max_length=100)
    match = (
        r"none of the 1 rows fits the model's context of 16 tokens \(data\.max_length=100\) with"
    )
    with pytest.raises(ValueError, match=match):
        encoded_dataset(source, byte_tokenizer(), context=16)


def test_the_test_split_is_encoded_as_far_as_asked(builds):
    tokenizer = byte_tokenizer()
    rows = encoded_dataset(SOURCE, tokenizer, split="test", limit=7)
    whole = encoded_dataset(SOURCE, tokenizer, split="test")
    assert len(rows) == 7 and whole[:7] == list(rows) and len(whole) == 400
    encoded_dataset(replace(SOURCE, max_examples=1), tokenizer, split="test", limit=7)
    assert len(builds) == 2


def test_no_held_out_rows_are_no_rows(builds, tmp_path):
    source = write(tmp_path / "rows.jsonl", [("a", "b")])
    for _ in range(2):
        assert list(encoded_dataset(source, byte_tokenizer(), split="test")) == []
    assert len(builds) == 1


ARROW = "data-00000-of-00001.arrow"


@pytest.mark.parametrize("name", [ARROW, "state.json", "dataset_info.json", "facts.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "longer"])
def test_a_damaged_entry_is_noticed_and_built_again(builds, name, damage):
    expected = list(encoded_dataset(SOURCE, byte_tokenizer()))
    path = builds[0] / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "changed": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :],
        "longer": whole + b"12345678",
        "gone": None,
    }[damage]
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    assert list(encoded_dataset(SOURCE, byte_tokenizer())) == expected
    if (name, damage) != ("facts.json", "changed"):  # a letter of a reason, perhaps
        assert len(builds) == 2 and path.read_bytes() == whole


def test_a_build_that_fails_leaves_nothing(builds, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoded_dataset(SOURCE, byte_tokenizer())
    assert not list((cache_dir() / "encoded").iterdir())
    assert len(encoded_dataset(SOURCE, byte_tokenizer())) == 300


SLOW_BUILD = """
import sys, time
from alps.data.encoding import dataset as encoded
from alps.data.sources.mini import Mini
from alps.models.byte_tokenizer import byte_tokenizer
write = encoded.encode_dataset
def slow(*arguments):
    written = write(*arguments)
    print("written", flush=True)
    time.sleep(60)
    return written
encoded.encode_dataset = slow
encoded.encoded_dataset(Mini(name="m", generator="mini_math", max_examples=300, max_length=512),
                     byte_tokenizer())
"""


def test_a_builder_that_is_killed_leaves_nothing_that_counts(builds):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout and process.stdout.readline() == "written\n"
    (torn,) = (cache_dir() / "encoded").iterdir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torn.is_dir() and torn.suffix == ".tmp"
    assert len(encoded_dataset(SOURCE, byte_tokenizer())) == 300
    assert not torn.exists() and len(builds) == 1


COUNTED_BUILD = """
import sys, time
from alps.data.encoding import dataset as encoded
from alps.data.sources.mini import Mini
from alps.models.byte_tokenizer import byte_tokenizer
build, count = encoded._build, []
encoded._build = lambda *a: (count.append(1), time.sleep(1), build(*a))
source = Mini(name="m", generator="mini_math", max_examples=300, max_length=512)
print("ready", flush=True)
sys.stdin.readline()
print(len(encoded.encoded_dataset(source, byte_tokenizer())), len(count))
"""


def test_several_processes_at_once_build_it_once(builds):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", COUNTED_BUILD]
    several = [subprocess.Popen(command, env=os.environ, **pipes) for _ in range(3)]
    assert all(p.stdout.readline() == "ready\n" for p in several)
    for process in several:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = sorted(p.communicate(timeout=60)[0] for p in several)
    assert found == ["300 0\n", "300 0\n", "300 1\n"]


def test_a_source_whose_rows_vanish_meanwhile_is_one_sentence(builds, tmp_path):
    source = write(tmp_path / "rows.jsonl", [("a", "b"), ("c", "d")])
    rows = training_examples(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "training_examples", lambda _: replace(rows, num_examples=3))
        with pytest.raises(ValueError, match="data=rows changed while they were read"):
            encoded_dataset(source, byte_tokenizer())


def test_a_long_build_says_how_far_it_is_and_a_short_one_nothing(builds, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    encoded_dataset(SOURCE, byte_tokenizer(), progress="lines")
    assert not caplog.messages
    monkeypatch.setattr(encode_progress, "SECONDS_OF_SILENCE", 0)
    monkeypatch.setattr(encode_progress, "SECONDS_BETWEEN_LINES", 0)
    encoded_dataset(replace(SOURCE, template="plain"), byte_tokenizer(), progress="off")
    assert not caplog.messages
    encoded_dataset(replace(SOURCE, template="chat"), byte_tokenizer(), progress="lines")
    assert caplog.messages == ["encoding data=mini_math: 300 of 300 rows, 0 s left"]
