import json
from dataclasses import replace

from alps.base.atomic import write_json
from alps.report.page.content import About, page_content
from alps.report.page.page_run import runs_in_folder
from alps.runs.folder import RunFolder
from alps.runs.result import Result

ABOUT = About(title="runs", source="here", command="alps dashboard")


def content(made) -> dict:
    return page_content(runs_in_folder(made.output_dir), ABOUT)


def test_numbers_are_those_of_the_result(made, some_runs):
    found = content(made)
    (alps,) = [r for r in found["runs"] if r["method"] == "alps"]
    result = Result.read(RunFolder(some_runs["alps"].folder).result_path)
    assert [s["name"] for s in found["scores"]] == ["gsm8k/accuracy"]
    assert alps["scores"] == [result.evals["gsm8k"]["accuracy"]] and alps["ratio"] == 0.1
    assert alps["costs"]["train_seconds"] == result.train_seconds
    assert alps["deviations"] == ["fewer steps"]
    low, high = alps["intervals"][0]
    assert low < alps["scores"][0] < high
    assert found["source"] == "here" and found["written"].endswith("Z")


def test_equal_values_are_stored_once(made, some_runs):
    found = content(made)
    assert len(found["heat"]) == 1 and len(found["texts"]) == len(set(found["texts"]))
    lr = found["settings"]["optim.lr"]
    assert lr["values"] == [1e-4] and len(set(lr["each"])) == 2  # the base model has none
    assert len(found["settings"]["method.name"]["values"]) == 4


def test_a_damaged_file_is_a_note_and_the_rest_is_shown(made, some_runs):
    RunFolder(some_runs["alps"].folder).heads_path.write_text("{")
    RunFolder(some_runs["alps"].folder).metrics_path.write_bytes(
        b"step,loss,lr,tokens,seconds\n1,x,0,1,1\n"
    )
    (alps,) = [r for r in content(made)["runs"] if r["method"] == "alps"]
    assert len(alps["notes"]) == 2 and alps["heads"] is alps["curve"] is None and alps["scores"]


def test_many_runs_have_fewer_samples_each(made, monkeypatch):
    monkeypatch.setattr("alps.report.page.content.MAX_SAMPLES", 6)
    for seed in range(3):
        made.finish(made.run("full", seed=seed), {"gsm8k": [1, 0, 1, 1]})
    found = content(made)["runs"]
    shown = [(len(r["samples"]["gsm8k"]["each"]), r["samples"]["gsm8k"]["total"]) for r in found]
    assert shown == [(2, 4)] * 3


def test_content_is_json_even_with_losses_that_are_none(made):
    run = made.run("full")
    made.finish(run, {"gsm8k": [1, 0]}, final_train_loss=float("nan"))
    found = content(made)
    assert found["runs"][0]["costs"]["final_train_loss"] is None
    json.dumps(found, allow_nan=False)


def test_an_interval_without_a_bound_is_none(made):
    """Bounds that are missing or no numbers must not draw a bar down to zero."""
    run = made.run("full", benchmarks=("held_out",))
    made.finish(run, {"held_out": [2.0, 3.0]})
    for bounds in ({"low": None, "high": 1.0}, {"low": 1.0, "high": float("inf")}, {"low": 1.0}):
        path = RunFolder(run.folder).result_path
        stored = json.loads(path.read_text())
        stored["uncertainty"] = {"held_out": {"loss": bounds}}
        path.write_text(json.dumps(stored))
        (found,) = content(made)["runs"]
        assert found["intervals"] == [None], bounds


def test_a_localization_is_shown_with_its_scores(made):
    heads = made.heads(made.run("alps"), [(0, 1), (1, 2)])
    folder = made.output_dir / "scores" / "pair-0123456789ab"
    origin = {"base": "llama", "task": "llama-math"}
    write_json(folder / "heads-pad.json", replace(heads, provenance=origin).to_json())
    write_json(folder / "heads-kl.json", {"heads": 5})
    found = {r["key"]: r for r in content(made)["runs"]}
    pad, kl = found["pair-0123456789ab-pad"], found["pair-0123456789ab-kl"]
    assert (pad["state"], pad["name"]) == ("localization", "localization pad")
    assert pad["heads"]["chosen"] == [1, 8] and pad["heads"]["scores"] is not None
    assert kl["state"] == "unreadable" and "no head set" in kl["reason"]
    assert content(made)["settings"]["task"]["values"] == ["llama-math"]
    keys = [r.key for r in runs_in_folder(made.output_dir, ["state=localization"])]
    assert keys == ["pair-0123456789ab-pad"]
