import csv
import io

import pytest

from alps.report.runs.table import RunRow, csv_text, markdown, print_table, table_cells, write_table
from alps.report.style import DASH
from alps.runs.result import Result


def row(key: str = "alps-0123456789ab", **changes) -> RunRow:
    facts = {
        "key": key,
        "model": "tiny",
        "data": "mini_math",
        "method": key.rsplit("-", 1)[0],
        "ratio": 0.1,
        "scope": "rest_trains",
        "seed": 0,
        "num_trainable": 1234567,
        "trainable_fraction": 0.12345,
        "train_seconds": 61.26,
        "peak_memory_bytes": 3 * 2**20,
        "final_train_loss": 1.23456,
        "flops_vs_full": 0.9661,
        "evals": {"held_out": {"loss": 0.1 + 0.2}},
        "data_hash": "d",
        "base_hash": "b",
        **changes,
    }
    return RunRow(key=key, result=Result(**facts))


BASE = row(
    "base-0123456789ab",
    ratio=None,
    scope=None,
    seed=None,
    num_trainable=0,
    trainable_fraction=0.0,
    train_seconds=None,
    peak_memory_bytes=None,
    final_train_loss=None,
)
FAILED = RunRow(key="kl-ba9876543210", failure="the loss is nan")


def lines(rows) -> list[dict[str, str]]:
    names, cells = table_cells(rows)
    return [dict(zip(names, line, strict=True)) for line in cells]


def read_csv(rows) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(rows)), strict=True))


def read_markdown(rows) -> list[list[str]]:
    text = markdown(rows)
    assert text.endswith("|\n")
    return [line.strip("| ").split(" | ") for line in text.splitlines()]


def test_a_row_shows_what_trained_what_it_cost_and_what_came_out():
    (line,) = lines([row()])
    assert line == {
        "method": "alps",
        "ratio": "0.1",
        "scope": "rest_trains",
        "trainable": "1,234,567",
        "trainable %": "12.35",
        "FLOPs": "0.97",
        "train s": "61.3",
        "peak MiB": "3",
        "train loss": "1.235",
        "held_out loss": "0.300",
        "run": "alps-0123456789ab",
    }


def test_what_was_scored_and_predicted_is_shown_where_some_run_has_it():
    scored = row(score_mass=0.315, predicted_memory_bytes=5 * 2**20)
    first, second = lines([scored, row("random-0123456789ab")])
    assert (first["score mass"], first["predicted MiB"]) == ("0.32", "5")
    assert (second["score mass"], second["predicted MiB"]) == (DASH, DASH)


def test_what_a_base_model_does_not_have_is_a_dash():
    (line,) = lines([BASE])
    blank = ("ratio", "scope", "train s", "peak MiB", "train loss")
    assert {line[name] for name in blank} == {DASH}
    assert (line["method"], line["trainable"], line["held_out loss"]) == ("base", "0", "0.300")


def test_every_metric_of_every_benchmark_has_a_column_in_order():
    rows = [
        row(evals={"b": {"z": 1.0, "a": 2.0}}),
        row("kl-0123456789ab", evals={"a": {"x": 3.0}, "b": {"a": 4.0}}),
    ]
    names, _ = table_cells(rows)
    assert names[-4:] == ["b z", "b a", "a x", "run"]
    first, second = lines(rows)
    assert [first[n] for n in names[-4:-1]] == ["1.000", "2.000", DASH]
    assert [second[n] for n in names[-4:-1]] == [DASH, "4.000", "3.000"]


def test_a_failed_row_names_its_method_reason_and_run():
    _, line = lines([row(), FAILED])
    assert (line["method"], line["trainable"]) == ("kl", "failed: the loss is nan")
    assert line["run"] == "kl-ba9876543210"
    assert line["held_out loss"] == DASH


def test_settings_in_which_runs_differ_become_columns():
    first = RunRow(key="a-1", failure="x", settings={"ratio": 0.1, "seed": 0, "optim.lr": 1e-4})
    second = RunRow(key="a-2", failure="x", settings={"ratio": 0.1, "seed": 0, "optim.lr": 1e-5})
    names, _ = table_cells([first, second])
    assert "optim.lr" in names and "seed" not in names
    assert [line["optim.lr"] for line in lines([first, second])] == ["0.0001", "1e-05"]
    assert [line["ratio"] for line in lines([first, second])] == ["0.1", "0.1"]


def test_markdown_has_a_header_and_a_line_for_each_row():
    header, rule, *body = read_markdown([BASE, row(), FAILED])
    assert (header[0], header[-1]) == ("method", "run")
    assert set(rule) == {"---"} and len(rule) == len(header)
    assert [line[0] for line in body] == ["base", "alps", "kl"]
    assert body[1][3] == "1,234,567"
    assert body[2][3] == "failed: the loss is nan"
    assert {len(line) for line in body} == {len(header)}


@pytest.mark.parametrize("reason", ["a | b", "first line\nsecond line", "a\r\nb"])
def test_no_reason_breaks_the_markdown_table(reason):
    found = read_markdown([row(), RunRow(key="kl-ba9876543210", failure=reason)])
    assert len(found) == 4
    assert len(found[3]) == len(found[0])


def test_csv_holds_every_number_in_full():
    (line,) = read_csv([row(trainable_fraction=1 / 3)])
    assert float(line["held_out/loss"]) == 0.1 + 0.2
    assert float(line["trainable_fraction"]) == 1 / 3
    assert line["num_trainable"] == "1234567"
    assert (line["key"], line["model"], line["data"]) == ("alps-0123456789ab", "tiny", "mini_math")
    assert (line["seed"], line["failure"]) == ("0", "")


def test_csv_leaves_empty_what_is_not_there():
    (line,) = read_csv([BASE])
    assert line["ratio"] == line["train_seconds"] == line["seed"] == ""
    assert line["num_trainable"] == "0"


def test_csv_keeps_failed_rows_with_their_reason():
    awkward = RunRow(key="kl-ba9876543210", failure='a "b", c\nd')
    good, bad = read_csv([row(), awkward])
    assert bad["key"] == "kl-ba9876543210"
    assert bad["failure"] == 'a "b", c\nd'
    assert {bad[n] for n in bad if n not in ("key", "failure")} == {""}
    assert good["failure"] == ""


def test_a_table_of_failures_only_has_columns_too():
    assert [line["method"] for line in lines([FAILED])] == ["kl"]
    assert len(read_csv([FAILED])) == 1


def test_write_table_leaves_both_files(tmp_path):
    paths = write_table([row(), FAILED], tmp_path / "sweep")
    assert [p.name for p in paths] == ["table.md", "table.csv"]
    assert paths[0].read_text(encoding="utf-8") == markdown([row(), FAILED])
    assert paths[1].read_text(encoding="utf-8") == csv_text([row(), FAILED])


def test_print_table_cuts_nothing_where_output_is_no_terminal(capsys):
    many = {f"benchmark_{i}": {"a_rather_long_metric": i / 10} for i in range(8)}
    print_table([row(evals=many)])
    printed = capsys.readouterr().out
    assert all(f"benchmark_{i} a_rather_long_metric" in printed for i in range(8))
    assert "alps-0123456789ab" in printed and "0.700" in printed


@pytest.mark.parametrize("reason", ["[/tmp/x.cc:5] closed by peer [::1]:80", "[red] [enforce] :x:"])
def test_print_table_shows_brackets_as_they_are(capsys, reason):
    print_table([RunRow(key="kl-ba9876543210", failure=reason)])
    assert reason in capsys.readouterr().out
