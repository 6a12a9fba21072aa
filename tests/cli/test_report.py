"""`alps report`, from result files that were made by hand and from four trainings."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from alps.base.serialization import SettingsError
from alps.cli.report import report
from alps.cli.report_settings import MAX_NAME, folder_name, parse_settings
from alps.config.build import runs_of
from alps.runs.folder import RunFolder
from alps.runs.result import Result

GRID = ("experiment=nine_methods", "scale=mini", "model=tiny", "method=full,alps")
FOLDER = "reports/nine_methods-mini-method=full,alps-model=tiny"


def finish(run, **changes) -> None:
    facts = {
        "key": run.key, "model": run.model.name, "data": run.data.name, "method": run.method.name,
        "seed": run.seed, "num_trainable": 1, "trainable_fraction": 0.5, "data_hash": "d",
        "base_hash": "b", "evals": {"mini_math": {"exact_match": 0.25}}, **changes,
    }  # fmt: skip
    folder = RunFolder(run.folder)
    folder.write_run(run)
    Result(**facts).write(folder.result_path)
    folder.set_status("finished")


def refusal(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        report(arguments)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("error: ") and "\n" not in shown
    return shown


def test_missing_runs_are_dashes_with_the_command_that_fills_them(tmp_path, capsys):
    finish(runs_of(GRID)[0])
    report(GRID)
    out, err = capsys.readouterr()
    assert "tiny, w/ full" in out and "tiny, ALPS, 10%" in out and "—" in out
    command = "alps train experiment=nine_methods scale=mini model=tiny method=full,alps"
    assert command in out
    assert not err
    files = {p.name for p in (tmp_path / "outputs" / FOLDER).iterdir()}
    texts = {"table.md", "table.tex", "results.csv", "results.json"}
    assert files == {*texts, "bars.png", "bars.pdf"}


def test_a_model_as_it_is_has_a_row_where_it_was_evaluated(capsys):
    run = runs_of(GRID)[0]
    finish(run)
    report([*GRID, "figures=false"])
    assert "vanilla" not in capsys.readouterr().out
    path = RunFolder(run.base_folder).result_path
    scores = {"mini_math": {"exact_match": 0.125}}
    facts = {"model": "tiny", "data": "", "data_hash": "", "base_hash": "b", "method": "base"}
    Result(key=run.base_key, num_trainable=0, trainable_fraction=0.0, evals=scores, **facts).write(
        path
    )
    report([*GRID, "figures=false"])
    out = capsys.readouterr().out
    assert "tiny, vanilla" in out and "12.50" in out
    path.write_text("{")
    assert "result.json" in refusal([*GRID, "figures=false"], capsys)


def test_an_empty_folder_is_one_sentence_with_the_command_that_fills_it(tmp_path, capsys):
    said = refusal([*GRID, "to=kept"], capsys)
    assert "nine_methods: no run of it has finished in outputs/runs" in said
    assert "`alps train experiment=nine_methods scale=mini model=tiny method=full,alps`" in said
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "kept").exists()


def test_a_run_that_failed_is_something_to_report(capsys):
    run = runs_of(GRID)[0]
    RunFolder(run.folder).write_run(run)
    RunFolder(run.folder).set_status("failed", "the loss became nan")
    report(GRID)
    out = capsys.readouterr().out
    assert "failed: full, tiny, mini_math, seed 0: the loss became nan" in out


def test_the_papers_numbers_stand_beside_empty_cells(capsys):
    grid = ["experiment=table11", "model=llama3_2_1b", "data=mathinstruct"]
    finish(runs_of(grid)[0])
    report([*grid, "figures=false"])
    assert "— (2.02)" in capsys.readouterr().out


def test_formats_and_folder_are_chosen(tmp_path, capsys):
    for run in runs_of(GRID):
        finish(run)
    report([*GRID, "format=csv,latex", "figures=false", "to=kept"])
    files = {p.name for p in (tmp_path / "outputs" / FOLDER).iterdir()}
    assert files == {"results.csv", "table.tex"}
    kept = {"results.csv", "table.md", "runs.json", "documents.csv.gz"}
    assert {p.name for p in (tmp_path / "kept").iterdir()} == kept
    assert "25.00" in (tmp_path / "kept" / "table.md").read_text()


def test_runs_are_read_from_the_folder_that_is_given(tmp_path, capsys):
    elsewhere = f"output_dir={tmp_path / 'elsewhere'}"
    for run in runs_of([*GRID, elsewhere]):
        finish(run)
    report([*GRID, elsewhere, "figures=false"])
    assert "25.00" in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / FOLDER / "table.md").exists()


def test_a_result_of_another_schema_is_one_sentence_and_does_not_hide_the_others(capsys):
    good, bad = runs_of(GRID)
    finish(good)
    finish(bad, schema_version=99)
    with pytest.raises(SystemExit) as stopped:
        report([*GRID, "figures=false"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and "schema 99" in err and "25.00" in out
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_a_damaged_evaluation_is_one_sentence_and_does_not_hide_the_others(capsys):
    good, bad = runs_of(GRID)
    finish(good)
    finish(bad)
    path = RunFolder(bad.folder).evaluation_path("mini_math", "alpaca")
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1, "benchmark": []}')
    with pytest.raises(SystemExit) as stopped:
        report([*GRID, "figures=false"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and "25.00" in out
    assert f"{path} cannot be read" in err and "delete it" in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_several_runs_in_one_place_of_a_row_are_refused(tmp_path, capsys):
    said = refusal(["experiment=table4", "scale=mini", "data=mini_math"], capsys)
    assert "row 'smollm2_135m_q4, ALPS' has 3 runs of mini_math with seed 0" in said
    assert "task_model.data=mini_code" in said and "ask for one of them" in said
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("experiment", "caption"),
    [
        ("table11", "Table 11 of the ALPS paper, scale=mini, model=tiny"),
        ("nine_methods", r"Nine\_methods, scale=mini, model=tiny"),
    ],
)
def test_a_caption_says_whose_table_it_is(experiment, caption, tmp_path):
    grid = [f"experiment={experiment}", "scale=mini", "model=tiny"]
    finish(runs_of(grid)[0])
    report([*grid, "format=latex,md", "figures=false"])
    (folder,) = (tmp_path / "outputs/reports").iterdir()
    assert rf"\caption{{{caption}}}" in (folder / "table.tex").read_text()
    assert "of the ALPS paper" not in (folder / "table.md").read_text()


def test_several_experiments_are_reported_one_after_the_other(tmp_path, capsys):
    for name in ("table3", "table11"):
        finish(runs_of([f"experiment={name}", "model=tiny", "scale=mini"])[0])
    report(["experiment=table3,table11", "model=tiny", "scale=mini", "figures=false"])
    out = capsys.readouterr().out
    assert "Table 3, scale=mini" in out and "Table 11, scale=mini" in out
    folders = {p.name for p in (tmp_path / "outputs/reports").iterdir()}
    assert folders == {"table3-mini-model=tiny", "table11-mini-model=tiny"}


def test_a_report_of_one_grid_leaves_that_of_another_alone(tmp_path, capsys):
    table = ["experiment=table11", "format=md", "figures=false"]
    grids = ([], ["scale=mini"], ["scale=mini", "data=mini_math"], ["scale=mini", "seed=0,1"])
    for grid in grids:
        finish(runs_of(["experiment=table11", *grid])[0])
        report([*table, *grid])
    texts = {p.name: (p / "table.md").read_text() for p in (tmp_path / "outputs/reports").iterdir()}
    assert len(set(texts.values())) == len(grids)
    assert "Llama-3.2-1B, w/ full" in texts["table11"]
    assert "smollm2_135m_q4, w/ full" in texts["table11-mini"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "table3"),
        (["scale=paper"], "table3"),
        (["scale=mini"], "table3-mini"),
        (["seed=0,1,2", "scale=mini", "data=mini_math"], "table3-mini-data=mini_math-seed=0,1,2"),
        (["data.max_examples=0"], "table3-data.max_examples=0"),
        (["output_dir=x", "trainer=ddp", "trainer.devices=2", "hydra/launcher=slurm",
          "+hydra.launcher.gpus=1", "logger=wandb", "weights=drop", "debug=true"], "table3"),
    ],
)  # fmt: skip
def test_a_folder_is_named_by_its_grid(settings, expected):
    assert folder_name("table3", settings) == expected
    assert folder_name("table3", settings[::-1]) == expected


def test_no_name_is_long_or_leads_elsewhere():
    models = ["model=/home/a model", "model=/home/a_model", "model=../../x"]
    names = [folder_name("table3", [model]) for model in models]
    names += [folder_name("table3", [f"data.path={'x' * 300}{end}"]) for end in "ab"]
    assert len(set(names)) == len(names)
    assert all(len(name) < MAX_NAME + 8 and "/" not in name and " " not in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiment=tabel1"], "did you mean"),
        (["experiment=nine_methods", "methd=full"], "methd is not a setting"),
        ([], "experiment=... is missing"),
        (["experiment=table1", "format=pdf"], "format=pdf is not possible"),
        (["experiment=table1", "figures=maybe"], "figures must be true or false"),
        (["experiment=table1,table2", "to=x"], "one experiment"),
        (["table1"], "'table1' is not understood"),
    ],
)
def test_mistakes_are_one_sentence(arguments, said, capsys):
    assert said in refusal(arguments, capsys)


def test_a_damaged_paper_is_one_sentence(tmp_path, capsys):
    place = tmp_path / "experiments" / "nine_methods" / "paper.csv"
    place.parent.mkdir(parents=True)
    place.write_text("row,column\na,b\n")
    assert "line 2 cannot be read" in refusal(GRID, capsys)


def test_all_problems_are_told_together():
    with pytest.raises(SettingsError) as error:
        parse_settings(["format=x", "figures=y"])
    assert len(error.value.problems) == 3


def test_four_trainings_become_a_report(cli, tmp_path):
    settings = [
        "experiment=table3", "scale=mini", "model=tiny", "data=mini_math", "method=full,alps",
        "ratio=0.5", "seed=0,1", "data.max_examples=16", "evals.limit=4", "trainer.progress=off",
    ]  # fmt: skip
    cli("train", *settings, check=0)
    done = cli("report", *settings, check=0)
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    made = {p.name for p in folder.iterdir()}
    assert {"table.md", "table.tex", "results.csv", "results.json", "bars.png", "bars.pdf"} <= made
    plain = json.loads((folder / "results.json").read_text())
    assert len(plain["runs"]) == 4 and not plain["missing"]
    results = [Result.read(p) for p in (tmp_path / "outputs/runs").glob("*/result.json")]
    losses = [r.evals["held_out"]["loss"] for r in results if r.method == "alps"]
    lines = csv.DictReader((folder / "results.csv").open())
    (line,) = [x for x in lines if x["method"] == "alps" and x["kind"] == "loss"]
    assert float(line["value"]) == pytest.approx(sum(losses) / 2)
    assert line["num_seeds"] == "2" and float(line["std"]) > 0
    scores = [c for c in plain["cells"] if c["kind"] == "score"]
    assert all(c["low"] is not None for c in scores)  # documents of the real samples were found
    assert "tiny, 50%" in done.stdout


def test_nothing_imports_torch_while_reporting(tmp_path):
    code = (
        "import sys; from alps.cli.report import report; "
        "report(['experiment=nine_methods', 'scale=mini', 'model=tiny']); "
        "sys.exit(bool({'torch', 'lm_eval', 'evalplus'} & set(sys.modules)))"
    )
    for run in runs_of(["experiment=nine_methods", "scale=mini", "model=tiny"]):
        finish(replace(run, output_dir=str(tmp_path / "outputs")))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "outputs/reports/nine_methods-mini-model=tiny/bars.pdf").exists()


def test_a_published_table_is_made_again_from_its_folder_alone(tmp_path, capsys):
    for run in runs_of(GRID):
        finish(run)
    report([*GRID, "to=kept", "figures=false"])
    shutil.rmtree(tmp_path / "outputs")
    report(["from=kept", "to=again", "figures=false"])
    for name in ("table.md", "results.csv", "runs.json", "documents.csv.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()
    assert (tmp_path / "outputs" / FOLDER / "table.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["from=kept"], "kept holds no published table"),
        (["from="], "from= names no folder"),
        ([*GRID, "to="], "to= names no folder"),
        (["from=kept", "seed=1"], "seed=1 does not go with from=...: the table in it has its own"),
        (["from=kept", "experiment=table1"], "experiment=table1 does not go with from=..."),
        ([*GRID, "correction=hol"], "correction=hol is not possible, did you mean 'holm'?"),
    ],
)
def test_what_does_not_go_with_a_published_table_is_one_sentence(arguments, said, capsys):
    assert said in refusal(arguments, capsys)


def test_figures_of_heads_need_only_the_runs_that_train_all(cli, tmp_path):
    settings = ["experiment=figure8", "scale=mini", "model=tiny", "data=mini_math,mini_code",
                "data.max_examples=8", "trainer.progress=off"]  # fmt: skip
    cli("train", *settings, check=0)
    assert {p.name.split("-")[0] for p in (tmp_path / "outputs/runs").iterdir()} == {"full"}
    before = sorted((tmp_path / "outputs/runs").rglob("*"))
    cli("report", *settings, check=0)
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    pictures = {p.name for p in folder.iterdir() if p.suffix in (".png", ".pdf")}
    assert pictures == {"heads.png", "heads.pdf"}
    assert sorted((tmp_path / "outputs/runs").rglob("*")) == before
    assert len(list((tmp_path / "outputs/scores").iterdir())) == 2
    for weights in (tmp_path / "outputs/runs").glob("*/weights"):
        shutil.rmtree(weights)
    picture = (folder / "heads.png").read_bytes()
    cli("report", *settings, check=0)  # scores are enough
    assert (folder / "heads.png").read_bytes() == picture
    shutil.rmtree(tmp_path / "outputs/scores")
    done = cli("report", *settings, check=2)
    assert "were deleted (weights=drop)" in done.stderr and "Traceback" not in done.stderr


def test_weights_that_a_figure_scores_are_not_dropped(cli, tmp_path):
    done = cli("train", "experiment=figure5", "scale=mini", "weights=drop", check=2)
    assert done.stderr.startswith("error: experiment=figure5 shows scores of the trained weights")
    assert "use weights=qkv" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_transfer_is_drawn_beside_table_1(tmp_path, capsys):
    settings = ["scale=mini", "model=tiny", "method=random"]
    for run in runs_of(["experiment=table1", *settings]):
        finish(run, evals={run.data.name: {"exact_match": 0.5}})
    for run in runs_of(["experiment=table4", *settings]):
        finish(run, evals={run.data.name: {"exact_match": 0.25}})
    report(["experiment=table4", *settings])
    files = {
        p.name
        for p in (tmp_path / "outputs/reports/table4-mini-method=random-model=tiny").iterdir()
    }
    assert {"bars.png", "transfer.png", "transfer.pdf"} <= files


def test_transfer_of_one_task_is_drawn_without_the_papers_other_tasks(tmp_path, capsys):
    settings = ["transfer=math", "model=llama3_2_1b", "method=full,random"]
    for run in runs_of(["experiment=table4", *settings]):
        finish(run, evals={b.name: {"accuracy": 0.25} for b in run.evals.benchmarks})
    report(["experiment=table4", *settings])
    assert "transfer.png" in capsys.readouterr().out


def test_a_sheet_shows_the_heads_of_the_first_seed_that_has_some(tmp_path, monkeypatch, capsys):
    import alps.pipeline.head_selection
    from alps.report.heads import sheet as head_sheet

    settings = ["experiment=figure8", "scale=mini", "model=tiny", "data=mini_math", "seed=0,1,2"]
    finish(runs_of(settings)[0], evals={})
    drawn = []
    keep = lambda title, known, folder: drawn.append(known) or []  # noqa: E731
    monkeypatch.setattr(head_sheet, "draw_sheet", keep)
    heads = {0: None, 1: "heads of seed 1", 2: None}
    monkeypatch.setattr(RunFolder, "has_weights", lambda folder, needs: True)
    monkeypatch.setattr(
        alps.pipeline.head_selection, "heads_without_training", lambda run: heads[run.seed]
    )
    report([*settings, "to=kept"])
    assert drawn == [{("tiny", "mini_math"): "heads of seed 1"}]
    report(["from=kept"])  # a published table has no scores, and takes none from elsewhere
    assert len(drawn) == 1


def test_damaged_weights_of_a_sheet_are_one_sentence(tmp_path, monkeypatch, capsys):
    from alps.models.weights import tensor_names
    from alps.pipeline import head_selection

    settings = ["experiment=figure8", "scale=mini", "model=tiny", "data=mini_math"]
    finish(runs_of(settings)[0], evals={})
    weights = tmp_path / "trained.safetensors"
    weights.write_bytes(b"x")
    monkeypatch.setattr(RunFolder, "has_weights", lambda folder, needs: True)
    monkeypatch.setattr(head_selection, "heads_without_training", lambda run: tensor_names(weights))
    assert f"{weights} is damaged" in refusal(settings, capsys)
