"""Base evaluations and localizations of the command line are runs in W&B, here offline."""

import threading

import pytest

from alps.report.heads.heat_map import draw_heat_map
from alps.tracking.background import Background
from alps.tracking.send import send_guarded

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_account(wandb_offline):
    """No credentials, no settings."""


def recorded(folder, wandb_records) -> list[dict]:
    (offline,) = folder.glob("wandb/offline-run-*")
    return wandb_records(offline)


def test_a_base_evaluation_is_a_run(cli, tmp_path, wandb_records):
    settings = ["model=tiny", "evals=[mini_math]", "evals.limit=2", "logger=wandb"]
    cli("evaluate", *settings, "logger.project=other", check=0)
    (folder,) = (tmp_path / "outputs" / "evals").iterdir()
    records = recorded(folder, wandb_records)
    (run,) = [r["run"] for r in records if r["type"] == "run"]
    assert (run["run_id"], run["job_type"], run["project"]) == (folder.name, "evaluate", "other")
    assert set(run["tags"]) == {"base", "tiny"}
    names = {n for r in records if r["type"] == "summary" for n in r["summary"]["update"]}
    assert {"mini_math/exact_match", "mini_math/exact_match/low"} <= names
    assert records[-1]["exit"]["exit_code"] == 0
    cli("evaluate", *settings, "logger.project=other", check=0)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1, "nothing is new"


def test_a_localization_is_a_run(cli, make_trained, wandb_records):
    run = make_trained("method=full")
    here = f"output_dir={run.output_dir}"
    cli("localize", "base=tiny", f"task={run.key}", "metric=pad,kl", here, "logger=wandb", check=0)
    (folder,) = (run.folder.parents[1] / "scores").iterdir()
    records = recorded(folder, wandb_records)
    (about,) = [r["run"] for r in records if r["type"] == "run"]
    assert (about["run_id"], about["job_type"]) == (folder.name, "localize")
    keys = {k for r in records if r["type"] == "history" for k in r["history"]["item"]}
    assert {"heads/heat_map-pad._type", "heads/heat_map-kl._type"} <= keys
    (artifact,) = [r["artifact"] for r in records if r["type"] == "artifact"]
    files = {content["path"] for content in artifact["manifest"]["contents"]}
    assert files == {"heads-pad.json", "heads-kl.json"}


def test_a_report_is_a_run(cli, tmp_path, wandb_records):
    grid = [
        "experiment=demo", "model=tiny", "method=full", "data.max_examples=8", "evals.limit=2",
        "trainer.progress=off",
    ]  # fmt: skip
    cli("train", *grid, check=0)
    cli("report", *grid, "logger=wandb", "logger.project=tables", check=0)
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    records = recorded(folder, wandb_records)
    (about,) = [r["run"] for r in records if r["type"] == "run"]
    assert (about["run_id"], about["job_type"]) == (f"report-{folder.name}", "report")
    assert about["project"] == "tables"
    keys = {k for r in records if r["type"] == "history" for k in r["history"]["item"]}
    assert "table._type" in keys and any(k.startswith("figures/") for k in keys)
    files = {
        content["path"]
        for r in records
        if r["type"] == "artifact" and r["artifact"]["type"] == "report"
        for content in r["artifact"]["manifest"]["contents"]
    }
    assert {"results.csv", "table.md"} <= files
    done = cli("report", *grid, "logger=wandb", "format=md", check=0)
    assert "W&B gets results.csv: add csv to format" in done.stdout


def test_a_service_that_hangs_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(Background.__init__, "__defaults__", (10_000, 0.2))
    gate = threading.Event()
    send_guarded(lambda: gate.wait(), draw_heat_map)
    gate.set()
    assert "did not end within" in caplog.text


def test_without_wandb_there_is_nothing_of_it(cli, make_trained):
    run = make_trained("method=full")
    here = f"output_dir={run.output_dir}"
    cli("localize", "base=tiny", f"task={run.key}", here, check=0)
    assert not list(run.folder.parents[1].rglob("wandb*"))
