"""The experiments of the paper, counted from their grids."""

import csv
import re
from pathlib import Path

import pytest

from alps.config.build import runs_of
from alps.config.compose import conf_dir
from alps.config.grid import GridComposer
from alps.data.subset import training_examples
from alps.plan.stages import plan_runs

PAPER = Path(__file__).resolve().parents[2] / "experiments"
TABLES = ("table1", "table2", "table3", "table4", "table5", "table10", "table11", "table12")
TABLES += ("table13", "table14")
FIGURES = ("figure2", "figure5", "figure8")
CHOICES = GridComposer()


@pytest.fixture(scope="module")
def grids():
    return {name: runs_of([f"experiment={name}"], CHOICES) for name in (*TABLES, *FIGURES)}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_as_many_runs_as_its_readme_says(table, grids):
    (told,) = re.findall(r"^\*\*Runs:\*\* (\d+) ", (PAPER / table / "README.md").read_text(), re.M)
    assert len(grids[table]) == int(told)


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_of_a_table_are_those_of_the_paper(table, grids):
    with (PAPER / table / "paper.csv").open() as file:
        cells = list(csv.DictReader(file))
    rows = {
        (c["model"], c["data"], c["method"], float(c["ratio"] or 0), c["task_model"])
        for c in cells
        if c["method"] not in ("", "base") and c["data"] and " " not in c["data"]
    }
    if table in ("table5", "table11", "table13"):  # their data are not printed
        rows = {row[:1] + row[2:] for c in cells if (row := printed(c))[2] not in ("", "base")}
        assert {row_of(r)[:1] + row_of(r)[2:] for r in grids[table]} == rows
        return
    assert {row_of(run) for run in grids[table]} == rows


def printed(cell):
    ratio = float(cell["ratio"] or 0)
    return cell["model"], cell["data"], cell["method"], ratio, cell["task_model"]


def row_of(run):
    task_model = getattr(run.method, "task_model", None)
    return (
        run.model.name,
        run.data.name,
        run.method.name,
        getattr(run.method, "ratio", 0),
        task_model.name if task_model else "",
    )


def test_tables_1_to_3_are_108_runs_and_all_tables_182(grids):
    first = plan_runs({name: grids[name] for name in ("table1", "table2", "table3")})
    assert len(first) == 108
    every = plan_runs({name: grids[name] for name in TABLES})
    assert len(every) == 182
    assert sum(not each.tables for each in every.values()) == 8  # task models of Table 10
    assert plan_runs(grids).keys() == every.keys()  # figures are drawn from the same runs


def test_figures_are_drawn_from_table_1(grids):
    keys = {name: {run.key for run in runs} for name, runs in grids.items()}
    assert keys["figure2"] == keys["table1"]
    assert keys["figure5"] < keys["figure8"] < keys["table1"]
    assert len(keys["figure5"]) == 3 and len(keys["figure8"]) == 9


def test_heads_of_the_transfer_tables_come_from_table_1(grids):
    full = {r.key for r in grids["table1"] if r.method.name == "full"}
    needed = {r.task_run().key for r in grids["table12"] if r.task_run()}
    assert needed == full


def test_readily_is_the_sibling_of_each_model(grids):
    paths = {
        r.model.name: r.method.task_model.path
        for r in grids["table10"]
        if r.method.name == "alps" and r.method.task_model.name == "readily"
    }
    assert paths == {
        "llama3_2_1b": "meta-llama/Llama-3.2-1B-Instruct",
        "llama3_2_3b": "meta-llama/Llama-3.2-3B-Instruct",
    }


def test_the_paper_s_optimizer_scope_and_seed(grids):
    for runs in grids.values():
        assert {(r.optim.name, r.seed) for r in runs} == {("paper", 0)}
        assert {getattr(r.method, "scope", "rest_trains") for r in runs} == {"rest_trains"}


@pytest.mark.parametrize(
    ("table", "data", "benchmarks"),
    [
        ("table1", "ultrachat", "held_out ifeval gpqa"),
        ("table1", "mathinstruct", "held_out gsm8k math"),
        ("table4", "codealpaca", "held_out humaneval humaneval_plus mbpp mbpp_plus"),
        ("table5", "ultrachat", "mmlu arc_challenge"),
        ("table11", "magicoder", ""),
        (
            "table14",
            "mathinstruct",
            "held_out ifeval gpqa gsm8k math humaneval humaneval_plus mbpp mbpp_plus",
        ),
    ],
)
def test_benchmarks_are_those_of_the_table(grids, table, data, benchmarks):
    sets = [[b.name for b in r.evals.benchmarks] for r in grids[table] if r.data.name == data]
    assert sets and all(found == benchmarks.split() for found in sets)


EXPERIMENTS = {p.stem for p in (conf_dir() / "experiment").glob("*")}
EXPERIMENTS.remove("figure7")  # trains nothing


def test_no_row_is_withheld_for_nothing():
    """Every run of every table and figure is asked for its loss on all held-out rows, somewhere."""
    losses = {}
    for experiment in sorted(EXPERIMENTS - {"demo"}):  # it has no scale
        for run in runs_of([f"experiment={experiment}"], CHOICES):
            asked = [b for b in run.evals.benchmarks if b.name == "held_out"]
            losses.setdefault(run.key, []).extend(asked)
            assert run.data.test_fraction > 0
    assert len(losses) > 100
    assert not [key for key, asked in losses.items() if not asked]
    assert {b.limit for asked in losses.values() for b in asked} == {None}


@pytest.mark.parametrize("choice", ["general", "math", "code", "all", "own_task", "every_task"])
def test_sets_for_trained_models_measure_the_held_out_loss(choice):
    (run,) = runs_of([f"evals={choice}", "data=mathinstruct", "method=full"], CHOICES)
    assert run.evals.benchmarks[0].name == "held_out"


@pytest.mark.parametrize("experiment", sorted(EXPERIMENTS))
def test_every_experiment_runs_on_a_laptop(experiment):
    runs = runs_of([f"experiment={experiment}", "scale=mini"], CHOICES)
    for run in [*runs, *(r.task_run() for r in runs if r.task_run())]:
        assert run.model.name == "smollm2_135m_q4" and run.optim.name == "mini"
        assert run.data.name.startswith("mini_")
        assert not [b for b in run.evals.benchmarks if getattr(b, "hub", None)]
    assert len(runs) == len({run.key for run in runs})


def rows_of(source):
    """Instruction and answer of every training row."""
    return {(example.instruction, example.answer) for example in training_examples(source)}


@pytest.mark.parametrize(
    ("settings", "count"),
    [([], 320), (["data.max_examples=500"], 500), (["data.fraction=0.5"], 160)],
)
def test_at_mini_scale_transfer_shares_no_row_with_the_task_model(settings, count):
    runs = runs_of(["experiment=table4", "scale=mini", "method=alps", *settings], CHOICES)
    assert len(runs) == 3
    for run in runs:
        assert run.data.name == run.task_run().data.name
        own, its = (rows_of(r.data) for r in (run, run.task_run()))
        assert (len(own), len(its)) == (count, 320)
        assert not own & its


def test_heads_of_the_mini_transfer_come_from_the_mini_table_1(grids):
    table1, table4 = (
        runs_of([f"experiment={t}", "scale=mini"], CHOICES) for t in ("table1", "table4")
    )
    full = {r.key for r in table1 if r.method.name == "full"}
    assert {r.task_run().key for r in table4 if r.task_run()} == full


@pytest.mark.parametrize("table", TABLES)
def test_scope_and_seed_are_axes_of_every_table(table):
    one = runs_of([f"experiment={table}", "scale=mini"], CHOICES)
    two = runs_of([f"experiment={table}", "scale=mini", "seed=0,1"], CHOICES)
    assert len(two) == 2 * len(one)
    heads_only = runs_of([f"experiment={table}", "scale=mini", "scope=heads_only"], CHOICES)
    methods = {r.method.scope for r in heads_only if hasattr(r.method, "scope")}
    assert methods == {"heads_only"} and len(heads_only) == len(one)
