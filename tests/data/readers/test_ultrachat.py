import json
from pathlib import Path

import pytest

from alps.config.build import build, compose_config
from alps.data.example import Example
from alps.data.readers.ultrachat import read
from alps.data.sources.table import Row

SAYINGS = ("Name a colour.", "Blue.", "Another one?", "Red, for instance.", "Thanks.", "Any time.")
TURNS = [{"content": text, "role": ("user", "assistant")[i % 2]} for i, text in enumerate(SAYINGS)]
ROW = {"prompt": SAYINGS[0], "prompt_id": "5b0f" * 16, "messages": TURNS}


def source(path: Path, *rows: dict, **settings):
    file = path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [f"data.{name}={value}" for name, value in settings.items()]
    return build(compose_config(["data=ultrachat", f"data.path={file}", *options])).data


def test_the_first_exchange_is_the_example():
    assert list(read(Row(ROW))) == [Example(instruction="Name a colour.", answer="Blue.")]


def test_with_all_turns_each_answer_is_learned_after_what_was_said():
    first, second, third = read(Row(ROW), turns="all")
    assert first == next(iter(read(Row(ROW))))
    said = "User: Name a colour.\n\nAssistant: Blue.\n\nUser: Another one?"
    assert second == Example(instruction=said, answer="Red, for instance.")
    end = "\n\nAssistant: Red, for instance.\n\nUser: Thanks."
    assert third == Example(instruction=said + end, answer="Any time.")


@pytest.mark.parametrize("turns", ["first", "all"])
def test_a_question_that_nobody_answers_is_left_out(turns):
    row = Row({**ROW, "messages": TURNS[:3]})
    assert [e.answer for e in read(row, turns=turns)] == ["Blue."]


def test_a_dialogue_lies_in_one_split_the_same_for_both_options(tmp_path):
    rows = [
        {**ROW, "messages": [{**m, "content": f"{m['content']} {i}"} for m in TURNS]}
        for i in range(60)
    ]
    first = source(tmp_path, *rows, test_fraction=0.3)
    every = source(tmp_path, *rows, test_fraction=0.3, **{"options.turns": "all"})
    assert sum(len(list(every.examples(s))) for s in ("train", "test")) == 180
    for split in ("train", "test"):
        numbers = {e.answer.split()[-1] for e in first.examples(split)}
        assert numbers and numbers == {e.answer.split()[-1] for e in every.examples(split)}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ("hello", "has a field 'messages' that is no list of messages"),
        (None, "has a field 'messages' that is no list of messages"),
        ([{"from": "human", "value": "a"}], "has no field 'role' (it has: from, value)"),
        (TURNS[1:], "has message 1 from 'assistant' where 'user' should speak"),
        ([TURNS[0], TURNS[2]], "has message 2 from 'user' where 'assistant' should speak"),
    ],
)
def test_another_shape_is_told_with_the_row(tmp_path, messages, problem):
    data = source(tmp_path, ROW, {**ROW, "messages": messages})
    with pytest.raises(ValueError) as error:
        list(data.examples("train"))
    assert str(error.value).startswith(f"row 2 of {data.path} {problem}")


def test_unknown_turns_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.options.turns=al is not possible.* 'all'\?"):
        source(tmp_path, ROW, **{"options.turns": "al"})
