import shutil
from pathlib import Path

from alps.report.page.page_run import runs_in_folder, runs_of_grid
from alps.runs.folder import RunFolder


def test_a_folder_has_its_runs_by_method_and_their_base_model(made, some_runs):
    found = runs_in_folder(made.output_dir)
    states = [(r.key.split("-")[0], r.state) for r in found]
    assert states == [
        ("alps", "finished"), ("full", "finished"), ("lora", "failed"), ("random", "finished"),
        ("base", "base model"),
    ]  # fmt: skip
    assert found[2].reason == "ran out of memory" and found[2].result is None


def test_filters_are_those_of_alps_runs(made, some_runs):
    def keys(*filters: str) -> list[str]:
        return [r.key.split("-")[0] for r in runs_in_folder(made.output_dir, filters)]

    assert keys("state=failed") == ["lora"]
    assert keys("method=alps") == ["alps", "base"]
    assert keys("memory") == ["lora"] and keys("method=alps", "seed=7") == []


def test_damaged_and_renamed_folders_are_shown_with_their_reason(made, some_runs):
    broken = RunFolder(some_runs["random"].folder)
    broken.settings_path.write_text("nothing: [")
    RunFolder(some_runs["full"].folder).result_path.write_text("{}")
    old = Path(some_runs["alps"].folder)
    shutil.move(old, old.with_name("alps-000000000000"))
    found = {r.key: r for r in runs_in_folder(made.output_dir)}
    assert found[broken.path.name].state == "unreadable" and found[broken.path.name].reason
    assert "schema" in found[some_runs["full"].key].reason
    assert found["alps-000000000000"].result is not None


def test_a_run_that_was_stopped_says_so(made):
    run = made.run("alps")
    RunFolder(run.folder).write_run(run)
    RunFolder(run.folder).set_status("stopped", "stopped by a signal")
    (found,) = runs_in_folder(made.output_dir)
    assert (found.state, found.reason) == ("stopped", "stopped by a signal")


def test_a_grid_shows_missing_runs_and_each_run_once(made, some_runs):
    missing = made.run("alps", seed=9)
    found = runs_of_grid([some_runs["full"], missing, some_runs["full"]])
    assert [r.state for r in found] == ["finished", "missing", "base model"]
