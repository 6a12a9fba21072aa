"""W&B runs from files, read back from what W&B recorded offline."""

import json

import pytest

from alps.runs.metrics import read_metrics
from alps.tracking.sent import read_sent

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_account(wandb_offline):
    """No credentials, no settings."""


def history(records: list[dict]) -> list[dict]:
    return [r["history"]["item"] for r in records if r["type"] == "history"]


def summary(records: list[dict]) -> dict:
    found = {}
    for record in records:
        found |= record["summary"]["update"] if record["type"] == "summary" else {}
    return found


def opened(records: list[dict]) -> dict:
    (run,) = [r["run"] for r in records if r["type"] == "run"]
    return run


def test_a_run_made_without_wandb_is_recorded_once(cli, make_trained, wandb_records):
    run = make_trained("method=random", "scope=heads_only", "logger.group=mine")
    here = f"output_dir={run.output_dir}"
    done = cli("sync", here, "method=random", check=0)
    rows = read_metrics(run.folder / "metrics.csv")
    assert done.stdout == (
        f"{run.key}: recorded: {len(rows)} steps, summary, heat map, head set file (offline)\n"
    )
    (folder,) = run.folder.glob("wandb/offline-run-*")
    records = wandb_records(folder)
    about = opened(records)
    assert about["run_id"] == about["display_name"] == run.key
    assert (about["project"], about["run_group"], about["job_type"]) == ("alps", "mine", "train")
    assert set(about["tags"]) == {"random", "tiny", "mini_math"}
    steps = [h for h in history(records) if "loss" in h]
    for logged, row in zip(steps, rows, strict=True):
        assert logged["_step"] == int(row["step"])
        assert all(logged[n] == float(row[n]) for n in ("loss", "lr", "tokens", "seconds"))
    result = json.loads((run.folder / "result.json").read_text())
    assert summary(records)["num_trainable"] == result["num_trainable"]
    assert any("heads/heat_map._type" in h for h in history(records))
    assert list(folder.glob("files/media/images/heads/heat_map*.png"))
    (heads,) = [r["artifact"] for r in records if r["type"] == "artifact"]
    assert heads["name"] == f"head_set-{run.key}"
    assert [c["path"] for c in heads["manifest"]["contents"]] == ["heads.json"]
    assert records[-1]["exit"]["exit_code"] == 0

    assert cli("sync", here, check=0).stdout == f"{run.key}: up to date (offline)\n"
    assert len(list(run.folder.glob("wandb/offline-run-*"))) == 1
    assert "steps" in cli("sync", here, "force=true", check=0).stdout


def test_changed_results_are_sent_without_the_steps(cli, make_trained):
    run = make_trained("method=full")
    here = f"output_dir={run.output_dir}"
    cli("sync", here, check=0)
    path = run.folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "train_seconds": 7.0}))
    assert cli("sync", here, check=0).stdout == f"{run.key}: recorded: summary (offline)\n"
    sent = read_sent(run.folder)
    assert sent and len(sent.offline) >= 1


def test_evaluations_localizations_and_reports_are_runs(cli, tmp_path, wandb_records, make_run):
    run = make_run("method=full")
    outputs = tmp_path / "outputs"
    result = {
        "key": "base-0123456789ab", "model": "tiny", "data": "", "method": "base",
        "num_trainable": 0, "trainable_fraction": 0.0, "data_hash": "", "base_hash": "x",
        "evals": {"gsm8k": {"exact_match": 0.5}}, "schema_version": 1,
        "uncertainty": {"gsm8k": {"exact_match": {"low": 0.4, "high": 0.6, "stderr": 0.05}}},
    }  # fmt: skip
    base = outputs / "evals" / "base-0123456789ab"
    base.mkdir(parents=True)
    (base / "result.json").write_text(json.dumps(result))
    pair = outputs / "scores" / "pair-0123456789ab"
    pair.mkdir(parents=True)
    heads = {
        "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "head_dim": 8, "heads": [[0, 1]],
        "metric": "pad", "ratio": 0.25, "scores": [[0.1, 0.9], [0.2, 0.3]],
        "provenance": {"base": "org/a", "task": "org/b"},
    }  # fmt: skip
    (pair / "heads-pad.json").write_text(json.dumps(heads))
    report = outputs / "reports" / "table2-mini"
    report.mkdir(parents=True)
    (report / "results.csv").write_text("row,score\nALPS,0.5\n")
    done = cli("sync", f"output_dir={outputs}", check=0)
    assert len(done.stdout.splitlines()) == 3 and "failed" not in done.stdout
    found = {}
    for folder in (base, pair, report):
        (recorded,) = folder.glob("wandb/offline-run-*")
        found[folder.parent.name] = wandb_records(recorded)
    kinds = {name: opened(records)["job_type"] for name, records in found.items()}
    assert kinds == {"evals": "evaluate", "scores": "localize", "reports": "report"}
    scores = summary(found["evals"])
    assert scores["gsm8k/exact_match"] == 0.5 and scores["gsm8k/exact_match/low"] == 0.4
    assert any("heads/heat_map-pad._type" in h for h in history(found["scores"]))
    types = {r["artifact"]["type"] for r in found["reports"] if r["type"] == "artifact"}
    assert types == {"report", "run_table"}
    assert not run.folder.exists()


def test_a_damaged_run_is_named_and_the_others_go_on(cli, make_trained):
    run = make_trained("method=full")
    other = make_trained("method=random", "scope=heads_only")
    (run.folder / "result.json").write_text("{")
    done = cli("sync", f"output_dir={run.output_dir}", check=1)
    assert f"{run.key}: failed: {run.folder}" in done.stdout
    assert f"{other.key}: recorded" in done.stdout


def test_disabled_and_bad_settings(cli, make_trained, monkeypatch):
    run = make_trained("method=full")
    here = f"output_dir={run.output_dir}"
    assert "force must be true or false" in cli("sync", here, "force=maybe", check=2).stderr
    assert cli("sync", here, "method=alps", check=0).stdout.startswith("no runs in ")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "nothing sent: W&B is disabled" in cli("sync", here, check=0).stdout
    assert not list(run.folder.glob("wandb*"))


@pytest.mark.parametrize("text", ["[]", '{"offline": [5]}', '{"offline": ["a\\u0000b"]}'])
def test_a_damaged_note_of_what_was_sent_is_repaired(cli, make_trained, text):
    run = make_trained("method=full")
    here = f"output_dir={run.output_dir}"
    cli("sync", here, check=0)
    path = run.folder / "wandb-sync.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | json.loads(text)) if text[:3] == '{"o' else text)
    assert "recorded: " in cli("sync", here, check=0).stdout
    assert cli("sync", here, check=0).stdout == f"{run.key}: up to date (offline)\n"
