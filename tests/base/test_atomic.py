import json
import os
import subprocess
import sys

import pytest

from alps.base.atomic import replacing, write_json


def test_replacing_writes_the_whole_file(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_text_is_written_in_utf_8_whatever_the_locale(tmp_path):
    code = "import sys, pathlib, alps.base.atomic as a; "
    code += "a.write_text(pathlib.Path(sys.argv[1]), '\\u2014')"
    latin = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    path = tmp_path / "table.md"
    subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, **latin}, check=True)
    assert path.read_bytes() == "—".encode()
