"""`alps dashboard`: where it writes, what it refuses, and the page of a table."""

import json
import re
import webbrowser
from pathlib import Path

import pytest

from alps.base.serialization import SettingsError
from alps.cli.dashboard import dashboard, parse_request
from alps.cli.report import report
from alps.config.build import runs_of
from alps.runs.folder import RunFolder
from alps.runs.result import Result

GRID = ("experiment=nine_methods", "scale=mini", "model=tiny", "method=full,alps")


def finish(run) -> None:
    folder = RunFolder(run.folder)
    folder.write_run(run)
    Result(
        key=run.key, model=run.model.name, data=run.data.name, method=run.method.name, seed=0,
        num_trainable=1, trainable_fraction=0.5, data_hash="d", base_hash="b",
        evals={"mini_math": {"exact_match": 0.25}},
    ).write(folder.result_path)  # fmt: skip
    folder.set_status("finished")


def content(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


def refusal(arguments, capsys) -> str:
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        dashboard(arguments)
    assert stopped.value.code == 2 and sorted(Path().rglob("*")) == before
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_it_prints_the_path_of_one_file_and_opens_it_when_asked(capsys, monkeypatch):
    run = runs_of(GRID)[0]
    finish(run)
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    dashboard([])
    path = Path("outputs/reports/dashboard/index.html")
    assert capsys.readouterr().out == f"{path}\n" and opened == []
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    found = content(path)
    assert [r["key"] for r in found["runs"]] == [run.key]
    assert found["source"] == str(Path("outputs/runs").absolute())
    dashboard(["--open", "method=full", "to=elsewhere"])
    assert opened == [Path("elsewhere/index.html").absolute().as_uri()]
    assert content(Path("elsewhere/index.html"))["command"] == (
        "alps dashboard method=full to=elsewhere"
    )


def test_an_experiment_shows_its_missing_runs(capsys):
    finish(runs_of(GRID)[0])
    dashboard(GRID)
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "dashboard.html" and path.parent.parent == Path("outputs/reports")
    states = {r["method"]: r["state"] for r in content(path)["runs"]}
    assert states == {"full": "finished", "alps": "missing"}


def test_a_report_can_have_the_same_page(capsys):
    finish(runs_of(GRID)[0])
    report([*GRID, "format=html", "figures=false"])
    path = Path(re.search(r"files: (\S+)", capsys.readouterr().out)[1])
    assert path.name == "dashboard.html" and [p.name for p in path.parent.iterdir()] == [path.name]
    rows = {r["method"]: (r["state"], r.get("scores")) for r in content(path)["runs"]}
    assert rows["full"] == ("finished", [0.25]) and rows["alps"][0] == "missing"


def test_a_published_table_has_its_documents(capsys):
    root = Path(__file__).parents[2]
    report([f"from={root}/experiments/table3", "format=html", "figures=false"])
    path = Path(re.search(r"files: (\S+)", capsys.readouterr().out)[1])
    found = content(path)
    assert len(found["runs"]) >= 18 and found["pairs"]["pools"]["mini_math"]
    assert {row["to"] for row in found["pooled"]} >= {"full"}


def test_bad_input_is_one_sentence(capsys):
    assert "no runs in outputs/runs: `alps train" in refusal([], capsys)
    assert "no runs in outputs/runs match method=x" in refusal(["method=x"], capsys)
    assert "'--opne' is not understood" in refusal(["--opne"], capsys)
    assert "no run of it is in" in refusal(GRID, capsys)
    two = refusal(["experiment=demo,table3", "scale=mini"], capsys)
    assert "`alps train experiment=demo scale=mini; alps train experiment=table3 scale=mini`" in two
    assert "alps is not" in refusal([*GRID, "alps"], capsys).replace("'", "")
    assert "to= is empty" in refusal(["to="], capsys)


def test_each_filter_has_a_folder_of_its_own():
    with pytest.raises(SettingsError, match="experiment= is empty"):
        parse_request(["experiment="])
    paths = {str(parse_request(a).path) for a in ([], ["alps"], ["seed=0"], ["experiment=table1"])}
    assert paths == {
        "outputs/reports/dashboard/index.html", "outputs/reports/dashboard-alps/index.html",
        "outputs/reports/dashboard-seed=0/index.html", "outputs/reports/table1/dashboard.html",
    }  # fmt: skip
