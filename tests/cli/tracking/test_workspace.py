"""Specs of workspaces and reports, without a network; they load again as they were."""

import json
import socket

import pytest

from alps.config.build import runs_of
from alps.tracking.workspace import PINNED, Comparison, build_report, build_workspace, spec_json

ws = pytest.importorskip("wandb_workspaces.workspaces")

SMALL = ("model=tiny", "data=mini_math", "evals=mini", "optim=mini")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, wandb_offline):
    connect = socket.socket.connect

    def refuse(self, address):
        assert self.family == socket.AF_UNIX, "a spec asked the network"  # W&B's own service
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


def comparison(**changes) -> Comparison:
    own = {
        "title": "table2",
        "keys": ["full-0123456789ab", "alps-0123456789ab", "kl-0123456789ab"],
        "baseline": "full-0123456789ab",
        "metrics": ["gsm8k/exact_match", "math/exact_match"],
        "project": "alps",
        "entity": "team",
    }
    return Comparison(**{**own, **changes})


def panels(spec: dict) -> list[dict]:
    return [p for s in spec["section"]["panelBankConfig"]["sections"] for p in s["panels"]]


def test_the_pinned_version_is_installed():
    from importlib.metadata import version

    assert version("wandb-workspaces") == PINNED


def test_a_workspace_has_all_panels_and_loads_again_as_it_was():
    workspace = build_workspace(comparison())
    text = spec_json(workspace)
    assert text == spec_json(build_workspace(comparison())), "the same each time"
    again = ws.Workspace._from_model(workspace._to_model())
    assert spec_json(again) == text
    spec = json.loads(text)
    kinds = [p["viewType"] for p in panels(spec)]
    assert set(kinds) == {
        "Run History Line Plot", "Bar Chart", "Scatter Plot", "Parallel Coordinates Plot",
        "Run Comparer", "Media Browser",
    }  # fmt: skip
    ids = [p["__id__"] for p in panels(spec)]
    assert len(set(ids)) == len(ids)
    bars = [p["config"]["metrics"] for p in panels(spec) if p["viewType"] == "Bar Chart"]
    assert ["gsm8k/exact_match"] in bars and ["math/exact_match"] in bars
    (runs,) = spec["section"]["runSets"]
    (condition,) = runs["filters"]["filters"]
    assert condition["key"]["name"] == "displayName" and condition["op"] == "IN"
    assert condition["value"] == list(comparison().keys)
    assert runs["baselineRunId"] in runs["pinnedRunIds"]


def test_without_a_baseline_none_is_named():
    spec = json.loads(spec_json(build_workspace(comparison(baseline=None))))
    assert "baselineRunId" not in spec["section"]["runSets"][0]


def test_a_report_has_the_same_panels():
    text = spec_json(build_report(comparison(), own_runs=False))
    assert text == spec_json(build_report(comparison(), own_runs=False)), "the same each time"
    blocks = json.loads(text)["blocks"]
    grids = [b for b in blocks if b["type"] == "panel-grid"]
    in_report = [p for g in grids for p in g["metadata"]["panelBankSectionConfig"]["panels"]]
    in_workspace = panels(json.loads(spec_json(build_workspace(comparison()))))
    assert [p["viewType"] for p in in_report] == [p["viewType"] for p in in_workspace]


def test_dry_run_writes_the_specs_of_an_experiment(cli, tmp_path):
    done = cli("workspace", "experiment=table2", *SMALL, "--dry-run", check=0)
    assert (
        "nothing was sent" in done.stdout and "no result yet of held_out, mini_math:" in done.stdout
    )
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    spec = json.loads((folder / "wandb-workspace.json").read_text())
    runs = runs_of(["experiment=table2", *SMALL])
    shown = spec["section"]["runSets"][0]["filters"]["filters"][0]["value"]
    task = runs[0].task_run()
    assert task and task.method.name == "full" and shown[0] == task.key, "the baseline"
    assert {run.key for run in runs} | {runs[0].base_key} <= set(shown)
    assert json.loads((folder / "wandb-report.json").read_text())["blocks"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "experiment=... must name one"),
        (["experiment=table1,table2"], "experiment=... must name one"),
        (["experiment=tabel2"], "tabel2"),
        (["experiment=table2", *SMALL], "W&B is offline or has no key here"),
    ],
)
def test_bad_input_is_a_sentence(cli, arguments, sentence):
    done = cli("workspace", *arguments, check=2)
    assert sentence in done.stderr
