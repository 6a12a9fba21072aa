import io
import json
import random

import pytest

from alps.data.files import json_text
from alps.data.files.json_text import json_rows


def rows(text: bytes, in_lines: bool = False) -> list:
    return list(json_rows(io.BytesIO(text), "NAME", in_lines))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 16])
@pytest.mark.parametrize("seed", range(3))
def test_a_list_is_the_same_however_it_is_cut(monkeypatch, chunk, seed):
    monkeypatch.setattr(json_text, "CHUNK", chunk)
    rng = random.Random(seed)
    letters = 'aé漢😀"\\ \n[]{},:0'
    wanted = [
        {"".join(rng.choices(letters, k=3)): "".join(rng.choices(letters, k=rng.randrange(40)))}
        for _ in range(30)
    ]
    text = json.dumps(wanted, ensure_ascii=bool(seed % 2), indent=seed or None)
    found = rows(("\ufeff" * (seed == 2) + text).encode())
    assert [row for _, row in found] == wanted
    assert [place for place, _ in found] == [f"row {i} of NAME" for i in range(1, 31)]


def test_a_broken_value_is_not_sought_in_the_whole_file(monkeypatch):
    """Reading stops where a value is longer than any row."""
    monkeypatch.setattr(json_text, "CHUNK", 100)
    monkeypatch.setattr(json_text, "MAX_ROW", 1_000)
    file = io.BytesIO(b'[{"a": ' + b"?" * 1_000_000 + b"]")
    with pytest.raises(ValueError, match="row 1 of NAME is not JSON"):
        list(json_rows(file, "NAME", False))
    assert file.tell() < 10_000


def test_the_first_line_tells_lines_from_one_object():
    assert [r for _, r in rows(b'\n{"a": 1}\n\n{"a": 2}')] == [{"a": 1}, {"a": 2}]
    assert rows(b'{"a":\n 1}') == [("row 1 of NAME", {"a": 1})]
    with pytest.raises(ValueError, match="row 1 of NAME is not JSON"):
        rows(b'{"a":\n 1}', in_lines=True)


def test_half_a_character_is_kept_for_the_reader_to_refuse():
    """JSON can spell half of a surrogate pair; which field has it is told where it is used."""
    assert rows(b'[{"a": "\\ud800"}]')[0][1] == {"a": "\ud800"}


def test_a_value_that_nests_too_deeply_is_not_json():
    deep = b"[" * 200_000
    for text in (b'{"a": ' + deep, b'[{"a": ' + deep):
        with pytest.raises(ValueError, match="row 1 of NAME is not JSON"):
            rows(text)
