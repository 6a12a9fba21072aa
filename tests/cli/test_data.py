import gzip
import json
from pathlib import Path

import pytest

SMALL = ("model=tiny", "evals=none", "data.max_examples=16")


def test_data_shows_numbers_and_samples(cli):
    shown = cli("data", "model=tiny", "data=mini_math", "samples=1", check=0).stdout
    assert "mini_math" in shown and "320 rows" in shown and "### Response:" in shown
    assert "median" in shown and "cut: 0 rows" in shown


def test_data_shows_rows_as_the_models_context_cuts_them(cli):
    shown = cli("data", "model=tiny", "model.random.max_position_embeddings=280", check=0).stdout
    assert "280 tokens a row" in shown and "cut: 0 rows" not in shown


def test_data_of_a_local_file_tells_what_was_left_out(cli, tmp_path):
    rows = [{"instruction": f"q{i}", "input": "", "output": "a" * (i % 3)} for i in range(9)]
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    given = ("data=alpaca", "data.path=rows.jsonl.gz", "data.test_fraction=0")
    shown = cli("data", "model=tiny", *given, check=0).stdout
    assert "6 rows" in shown and "left out: 3 empty answer" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=alpacca"], "there is no data=alpacca, did you mean 'alpaca'?"),
        (["data=alpaca", "data.path=nowhere.json"], "data.path=nowhere.json does not exist"),
        (["samples"], "'samples' cannot be read"),
        (["samples=few"], "samples must be a whole number, got few"),
        (["data=alpaca"], "is not in the hub cache"),
    ],
)
def test_data_refuses_in_one_sentence(cli, arguments, message):
    done = cli("data", "model=tiny", *arguments, check=2)
    assert message in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_prefetch_makes_runs_independent_of_the_network(cli, tmp_path, monkeypatch):
    grid = (*SMALL, "method=alps,random", "data=mini_math,mini_code")
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    told = cli("prefetch", "-m", *grid, check=0).stdout
    lines = told.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "model tiny", "data mini_math for tiny", "data mini_code for tiny",
    ]  # fmt: skip
    assert lines[-1] == "all 3 are here: these runs need no network any more"
    assert not (tmp_path / "outputs").exists()
    assert len([*Path(tmp_path, "cache", "encoded").iterdir()]) == 2
    assert cli("prefetch", *grid, check=0).stdout == told


def test_prefetch_names_what_is_missing_and_goes_on(cli):
    grid = (*SMALL, "data=alpaca,mini_math", "method=full")
    done = cli("prefetch", *grid, check=1)
    assert "error: data alpaca for tiny: tatsu-lab/alpaca@" in done.stderr
    assert "data mini_math for tiny: 16 rows" in done.stdout
    assert "1 of 3 are missing" in done.stdout


def test_prefetch_refuses_what_no_run_could_be(cli):
    done = cli("prefetch", "method=alps", "ratio=2", check=2)
    assert "ratio must lie in [0, 1], got 2" in done.stderr
