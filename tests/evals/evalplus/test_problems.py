import gzip
import hashlib
import json
import socket
import zlib
from urllib.error import URLError

import pytest

from alps.evals.evalplus import problems as evalplus_problems
from alps.evals.evalplus.problems import FIELDS, RELEASES, load_release, subset


def row(number, **changes):
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "contract": "",
        "canonical_solution": "    return x\n",
        "base_input": [[1.5]],
        "plus_input": [[2]],
        "atol": 0,
        **changes,
    }


ROWS = [row(number) for number in range(164)]


@pytest.fixture
def data_dir(tmp_path):
    """A folder with a file of the right size under the name that is looked for."""
    write(tmp_path, ROWS)
    return tmp_path


def write(folder, rows):
    path = folder / RELEASES["humaneval"].file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    return path


def test_all_problems_are_the_file_itself(data_dir):
    problem_set = load_release("humaneval", data_dir)
    path = data_dir / "humaneval_plus/HumanEvalPlus.jsonl.gz"
    assert [r["task_id"] for r in problem_set.problems] == [f"HumanEval/{n}" for n in range(164)]
    assert problem_set.content == path.read_bytes() and not problem_set.is_subset
    assert problem_set.md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert problem_set.file_name == "problems.jsonl.gz"
    assert problem_set.label == "HumanEval+ v0.1.10"


def test_a_limit_takes_the_first_by_number(tmp_path):
    write(tmp_path, ROWS[::-1])
    problem_set = load_release("humaneval", tmp_path, 11)
    assert [r["task_id"] for r in problem_set.problems] == [f"HumanEval/{n}" for n in range(11)]
    assert [json.loads(line) for line in problem_set.content.splitlines()] == ROWS[:11]
    assert problem_set.is_subset and problem_set.file_name == "problems.jsonl"


@pytest.mark.parametrize("limit", [164, 1000])
def test_a_limit_beyond_the_end_is_all(data_dir, limit):
    assert not load_release("humaneval", data_dir, limit).is_subset


@pytest.mark.parametrize("field", FIELDS)
def test_a_row_without_a_field_is_refused(tmp_path, field):
    torn = {name: value for name, value in row(7).items() if name != field}
    write(tmp_path, [*ROWS[:7], torn, *ROWS[8:]])
    with pytest.raises(ValueError, match=f"row 8 has no {field}"):
        load_release("humaneval", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:163], "has 163 problems, but HumanEval. v0.1.10 has 164"),
        ([*ROWS[:163], ROWS[0]], "has 163 problems"),
        ([*ROWS, ROWS[0]], "get it again"),
        ([*ROWS[:163], 5], "row 164 has no task_id"),
    ],
)
def test_a_short_file_is_refused_even_for_its_first_problems(tmp_path, rows, message):
    write(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        load_release("humaneval", tmp_path, 3)


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"x" + b, lambda b: b""])
def test_a_damaged_file_is_refused(data_dir, damage):
    path = data_dir / RELEASES["humaneval"].file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"HumanEvalPlus\.jsonl\.gz (is damaged|has 0 problems)"):
        load_release("humaneval", data_dir)


def test_a_flipped_byte_is_noticed(data_dir):
    path = data_dir / RELEASES["humaneval"].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="get it again"):
        load_release("humaneval", data_dir)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"MBPP\+ is missing: .*MbppPlus\.jsonl\.gz"):
        load_release("mbpp", tmp_path)


def test_without_a_folder_evalplus_own_release_is_downloaded_once(data_dir, monkeypatch):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(data_dir / "cache"))
    source = data_dir / RELEASES["humaneval"].file
    asked = []

    def nearby(name, version, mini):
        asked.append((name, version, mini))
        return source.as_uri(), "unused"

    monkeypatch.setattr("evalplus.data.utils.get_dataset_metadata", nearby)
    first = load_release("humaneval", None)
    source.unlink()
    assert load_release("humaneval", None) == first and first.problems == tuple(ROWS)
    assert asked == [("HumanEvalPlus", "v0.1.10", False)]
    assert not first.is_subset and first.file_name == "problems.jsonl"


@pytest.mark.parametrize(
    "error", [URLError("no such host"), TimeoutError(), EOFError(), zlib.error]
)
def test_a_download_that_fails_is_one_sentence_and_leaves_no_file(tmp_path, monkeypatch, error):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path))
    patience = []

    def fail(*_, **__):
        patience.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setattr("wget.download", fail)
    with pytest.raises(ValueError, match=r"MBPP\+ v0\.2\.0 cannot be downloaded .*alps prefetch"):
        load_release("mbpp", None)
    assert patience == [evalplus_problems.DOWNLOAD_TIMEOUT] and socket.getdefaulttimeout() is None
    assert list((tmp_path / "evalplus").iterdir()) == []


@pytest.mark.parametrize("dataset", ["humaneval", "mbpp"])
def test_the_versions_are_those_of_the_installed_evalplus(dataset):
    from evalplus.data import humaneval, mbpp

    wanted = {"humaneval": humaneval.HUMANEVAL_PLUS_VERSION, "mbpp": mbpp.MBPP_PLUS_VERSION}
    assert RELEASES[dataset].version == wanted[dataset]


def test_the_fields_are_those_evalplus_checks():
    from evalplus.data.utils import completeness_check

    completeness_check("ours", {"HumanEval/0": {name: 0 for name in FIELDS}})


def test_a_subset_survives_its_file():
    problem_set = subset("humaneval", "two", (row(0, base_input=[[float("inf")]]), row(1)))
    assert (
        tuple(json.loads(line) for line in problem_set.content.splitlines()) == problem_set.problems
    )
