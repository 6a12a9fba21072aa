"""Rows and columns: the paper's where its models and data ran, else like them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from alps.config.method_styles import method_styles
from alps.data.sources.jsonl import Jsonl
from alps.report.table import layout as table_layout
from alps.report.table.column_layout import AVERAGE, CHANGE
from alps.report.table.columns import ScoreColumn
from alps.report.table.paper import PaperNumber, find_paper, read_paper

build_layout = partial(table_layout.build_layout, styles=method_styles())

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
LLAMA = "llama3_2_1b"


def printed(row: str, column: str, value: float, **changes) -> PaperNumber:
    facts = {
        "model": LLAMA, "data": ("mathinstruct",), "method": "full", "ratio": None,
        "task_model": None, "task_data": None, "benchmarks": ("gsm8k",), "metric": "strict_match",
    }  # fmt: skip
    return PaperNumber(row=row, column=column, value=value, **{**facts, **changes})


def alps_cells(method: str = "alps", label: str = "1B, ALPS", **changes) -> list[PaperNumber]:
    kind = {"method": method, "ratio": 0.1, "task_model": "sft", **changes}
    both = ("ultrachat", "mathinstruct")
    return [
        printed(label, "GPQA", 3.0, data=both[:1], benchmarks=("gpqa",), **kind),
        printed(label, "GSM8K", 4.0, **kind),
        printed(label, "Avg.", 3.5, data=both, benchmarks=("gpqa", "gsm8k"), metric="mean", **kind),
        printed(label, "Avg. change", 2.0, data=both, metric="change", **kind),
    ]


def full_cells() -> list[PaperNumber]:
    return alps_cells("full", "1B, w/ full", ratio=None, task_model=None)[:3]


def two_tasks(made, method: str, **changes):
    return [
        made.run(method, "ultrachat", ("gpqa",), **changes),
        made.run(method, "mathinstruct", ("gsm8k",), **changes),
    ]


def test_the_papers_table_is_laid_out_label_for_label(made):
    paper = [*full_cells(), *alps_cells()]
    layout = build_layout([*two_tasks(made, "alps"), *two_tasks(made, "full")], paper)
    assert [row.label for row in layout.rows] == ["1B, w/ full", "1B, ALPS"]
    assert [c.label for c in layout.columns] == ["GPQA", "GSM8K", "Avg.", CHANGE]
    assert [c.kind for c in layout.columns] == ["score", "score", "average", "change"]
    assert layout.printed["1B, ALPS", "GSM8K"] == 4.0
    assert layout.printed["1B, ALPS", CHANGE] == 2.0


def test_a_cell_is_about_the_runs_of_its_data(made):
    layout = build_layout(two_tasks(made, "full"), full_cells())
    (row,), (gpqa, gsm8k, average) = layout.rows, layout.columns
    assert gpqa.weighted_scores(row, layout.columns) == [(1.0, "ultrachat", "gpqa")]
    assert gsm8k.weighted_scores(row, layout.columns) == [(1.0, "mathinstruct", "gsm8k")]
    both = [(0.5, "ultrachat", "gpqa"), (0.5, "mathinstruct", "gsm8k")]
    assert average.weighted_scores(row, layout.columns) == both


def test_an_average_is_of_columns_however_many_benchmarks_each_has(made):
    names = ("humaneval", "humaneval_plus")
    task = {"data": ("magicoder",), "benchmarks": names, "metric": "mean"}
    paper = [
        printed("1B, w/ full", "Math", 1.0),
        printed("1B, w/ full", "Code", 2.0, **task),
        printed("1B, w/ full", "Avg.", 1.5, data=("mathinstruct", "magicoder"), metric="mean"),
    ]
    runs = [made.run(), made.run(data="magicoder", benchmarks=names)]
    layout = build_layout(runs, paper)
    weights = [t.weight for t in layout.columns[2].weighted_scores(layout.rows[0], layout.columns)]
    assert weights == [0.5, 0.25, 0.25]


def test_held_out_losses_stand_beside_the_papers_columns_and_in_no_average(made):
    asked = {"ultrachat": ("held_out", "gpqa"), "mathinstruct": ("held_out", "gsm8k")}
    runs = [made.run(m, d, b) for m in ("full", "alps") for d, b in asked.items()]
    layout = build_layout(runs, [*full_cells(), *alps_cells()])
    losses = [("held_out loss (ultrachat)", "loss"), ("held_out loss (mathinstruct)", "loss")]
    columns = [(c.label, c.kind) for c in layout.columns]
    assert columns[:-2] == [
        ("GPQA", "score"), ("GSM8K", "score"), ("Avg.", "average"), (CHANGE, "change"),
    ]  # fmt: skip
    assert columns[-2:] == losses
    (row, _), (*_, average, change, first, second) = layout.rows, layout.columns
    for column in (average, change):
        parts = column.weighted_scores(row, layout.columns)
        assert {part.benchmark for part in parts} == {"gpqa", "gsm8k"}
    assert first.weighted_scores(row, layout.columns) == [(1.0, "ultrachat", "held_out")]
    assert second.weighted_scores(row, layout.columns) == [(1.0, "mathinstruct", "held_out")]


def test_a_row_of_one_dataset_has_the_loss_of_its_own(made):
    paper = [
        printed("1B-UC, w/ full", "GSM8K", 1.0, data=("ultrachat",)),
        printed("1B-MI, w/ full", "GSM8K", 2.0),
    ]
    runs = [
        made.run(data=d, benchmarks=("held_out", "gsm8k")) for d in ("ultrachat", "mathinstruct")
    ]
    layout = build_layout(runs, paper)
    assert [c.label for c in layout.columns] == ["GSM8K", "held_out loss"]
    found = {
        row.label: layout.columns[-1].weighted_scores(row, layout.columns) for row in layout.rows
    }
    assert found == {
        "1B-UC, w/ full": [(1.0, "ultrachat", "held_out")],
        "1B-MI, w/ full": [(1.0, "mathinstruct", "held_out")],
    }


def test_data_that_withhold_nothing_have_no_column_of_losses(made, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "a", "output": "b"}\n')
    run = made.run(benchmarks=("held_out", "gsm8k"))
    every = Jsonl(name="mathinstruct", path=str(file), test_fraction=0.0)
    some = replace(every, test_fraction=0.5)
    labels = [[c.label for c in build_layout([replace(run, data=d)], full_cells()).columns]
              for d in (every, some)]  # fmt: skip
    assert labels[0] == labels[1][:-1] and labels[1][-1] == "held_out loss"


def test_rows_of_the_paper_that_the_grid_does_not_have_are_named(made):
    layout = build_layout(two_tasks(made, "full"), [*full_cells(), *alps_cells()])
    assert [row.label for row in layout.rows] == ["1B, w/ full"]
    assert layout.absent == ("1B, ALPS",)


def test_runs_that_the_paper_does_not_have_are_rows_too(made):
    layout = build_layout(
        [*two_tasks(made, "full"), *two_tasks(made, "kl", ratio=0.3)], full_cells()
    )
    assert [row.label for row in layout.rows] == ["1B, w/ full", f"{LLAMA}, KL, 30%"]


def test_the_task_models_data_tell_rows_of_the_paper_apart(made):
    paper = [printed("1B, ALPS", "GSM8K", 1.0, method="alps", ratio=0.1, task_model="sft",
                     task_data="ultrachat")]  # fmt: skip
    own, other = made.run("alps"), made.run("alps", task_data="ultrachat")
    layout = build_layout([own, other], paper)
    assert [r.key for r in layout.rows[0].runs["mathinstruct"]] == [other.key]
    assert len(layout.rows) == 2


def test_seeds_share_a_row_and_other_settings_do_not(made):
    runs = [
        made.run("alps", scope=scope, seed=seed)
        for scope in ("rest_trains", "heads_only")
        for seed in (0, 1)
    ]
    layout = build_layout(runs, [])
    assert [row.variant for row in layout.rows] == ["scope=rest_trains", "scope=heads_only"]
    assert [len(row.runs["mathinstruct"]) for row in layout.rows] == [2, 2]
    assert layout.rows[1].label.endswith("ALPS, 10% [scope=heads_only]")


def seeds_of_weights(made):
    run = made.run("alps")
    return [replace(run, model=replace(run.model, seed=seed)) for seed in (0, 1)]


def paths_of_task_models(made):
    run = made.run("alps", task_model="readily")
    task_models = [replace(run.method.task_model, path=path) for path in ("org/a", "org/b")]
    return [replace(run, method=replace(run.method, task_model=t)) for t in task_models]


def data_of_task_models(made):
    return [made.run("alps", task_data=d) for d in (None, "ultrachat", "magicoder")]


@pytest.mark.parametrize(
    ("several", "told"),
    [
        (seeds_of_weights, ("model.seed=0", "model.seed=1")),
        (paths_of_task_models, ("task_model.path=org/a", "task_model.path=org/b")),
        (lambda made: data_of_task_models(made)[1:],
         ("task_model.data=ultrachat", "task_model.data=magicoder")),
    ],
)  # fmt: skip
def test_several_runs_in_one_place_of_a_row_are_refused(several, told, made):
    runs = several(made)
    with pytest.raises(ValueError, match="ask for one of them") as error:
        build_layout(runs, [])
    said = str(error.value)
    assert f"row '{LLAMA}, ALPS, 10%" in said and "2 runs of mathinstruct with seed 0" in said
    assert all(f"{r.key} ({t})" in said for r, t in zip(runs, told, strict=True))


def test_several_runs_in_one_place_of_a_row_of_the_paper_are_refused(made):
    with pytest.raises(ValueError, match=r"row '1B, ALPS' has 2 runs of mathinstruct with seed 0"):
        build_layout(seeds_of_weights(made), alps_cells())


def test_several_models_in_a_row_of_models_as_they_are_are_refused(made):
    paper = [printed("1B, vanilla", "GSM8K", 1.0, data=(), method="base")]
    first, second = seeds_of_weights(made)
    with pytest.raises(ValueError, match=r"row '1B, vanilla' has 2 runs of mathinstruct where"):
        build_layout([first, replace(second, seed=1)], paper)


def test_models_as_they_are_have_rows_where_that_is_asked_and_possible(made):
    paper = [*full_cells(), *alps_cells()]
    run = made.run(model="tiny")
    other = replace(run, data=replace(run.data, template="plain"), seed=1)
    for known in ([], paper):
        rows = [
            [r.label for r in build_layout(runs, known, base=True).rows]
            for runs in ([run], [run, other])
        ]
        assert rows[0] == ["tiny, vanilla", "tiny, w/ full"]
        assert len(rows[1]) == 2 and not any("vanilla" in label for label in rows[1])


def test_the_same_run_twice_is_one(made):
    run = made.run()
    assert len(build_layout([run, run], []).rows) == 1


def test_another_model_has_the_papers_rows_and_its_own_benchmarks(made):
    runs = [
        made.run(method, data, (benchmark, "held_out"), model="tiny")
        for method in ("alps", "full")
        for data, benchmark in (("ultrachat", "gpqa"), ("mathinstruct", "gsm8k"))
    ]
    layout = build_layout(runs, [*full_cells(), *alps_cells()])
    assert [row.label for row in layout.rows] == ["tiny, w/ full", "tiny, ALPS"]
    losses = ["held_out loss (ultrachat)", "held_out loss (mathinstruct)"]
    assert [c.label for c in layout.columns] == ["gpqa", "gsm8k", AVERAGE, CHANGE, *losses]
    assert not layout.printed


def test_forgetting_is_asked_of_models_of_other_tasks(made):
    paper = [printed("1B, w/ full", "MMLU", 1.0, data=(), benchmarks=("mmlu",))]
    asked = ("gpqa", "gsm8k")
    runs = [made.run(data=d, benchmarks=asked, model="tiny") for d in ("ultrachat", "mathinstruct")]
    layout = build_layout(runs, paper)
    gpqa, gsm8k = (c for c in layout.columns if isinstance(c, ScoreColumn))
    assert (gpqa.data, gsm8k.data) == (("mathinstruct",), ("ultrachat",))


def test_rows_of_one_dataset_each_are_compared_within_it(made):
    paper = [
        printed("1B-UC, w/ full", "GSM8K", 1.0, data=("ultrachat",)),
        printed("1B-MI, w/ full", "GSM8K", 2.0),
    ]
    runs = [made.run(data="mathinstruct"), made.run(data="ultrachat", benchmarks=("gsm8k",))]
    layout = build_layout(runs, paper)
    assert len({row.block for row in layout.rows}) == 2
    tiny = build_layout([replace(r, model=made.run(model="tiny").model) for r in runs], paper)
    assert [row.label for row in tiny.rows] == [
        "tiny, mathinstruct, w/ full", "tiny, ultrachat, w/ full",
    ]  # fmt: skip


def test_runs_without_benchmarks_show_their_hours(made):
    layout = build_layout([made.run(benchmarks=())], [])
    assert [c.kind for c in layout.columns] == ["hours"]


@pytest.mark.parametrize("table", [1, 2, 3, 4, 5, 10, 11, 12, 13, 14])
def test_every_printed_number_of_the_paper_has_a_place(table, made):
    path = find_paper(f"table{table}", (EXPERIMENTS,))
    assert path is not None
    paper = read_paper(path)
    runs = {}
    for p in paper:
        for data in p.data or ("ultrachat",):
            task_data = p.task_data if p.task_data else None
            if p.method == "base" or len(p.data) > 1:
                continue
            own = {"ratio": p.ratio or 0.1, "task_model": p.task_model or "sft"}
            run = made.run(p.method, data, p.benchmarks and ("gsm8k",), p.model,
                           task_data=task_data, **own)  # fmt: skip
            runs[run.key] = run
    layout = build_layout(list(runs.values()), paper)
    assert not layout.absent
    assert [row.label for row in layout.rows] == list(dict.fromkeys(p.row for p in paper))
    labels = {c.label for c in layout.columns}
    rows = {row.label for row in layout.rows}
    assert all(row in rows and column in labels for row, column in layout.printed)
    assert len(layout.printed) == len(paper)


def test_a_figure_is_compared_with_the_table_it_is_drawn_from():
    assert find_paper("figure2", (EXPERIMENTS,)) == EXPERIMENTS / "table1" / "paper.csv"
    assert find_paper("nine_methods", (EXPERIMENTS,)) is None


def test_a_damaged_paper_names_its_line(tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text((EXPERIMENTS / "table11" / "paper.csv").read_text().replace("2.02,2.02", "x,"))
    with pytest.raises(ValueError, match="line 2 cannot be read"):
        read_paper(path)


def test_a_column_in_which_no_row_can_have_a_number_is_left_out(made):
    """Table 2 has no row w/ full: no changes."""
    without = [made.run(m) for m in ("kl", "alps")]
    assert [c.label for c in build_layout(without, []).columns] == ["gsm8k"]
    columns = build_layout([made.run("full"), *without], []).columns
    assert [c.label for c in columns] == ["gsm8k", "Δ w/ full"]
