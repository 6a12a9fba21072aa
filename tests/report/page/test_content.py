import json

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
