import json
from dataclasses import replace

import pytest

from alps.base.atomic import write_json
from alps.config.build import build_assumed, runs_of
from alps.evals.run_models import evaluate_base
from alps.plan.assumptions import GIB
from alps.plan.build import VanillaRows, build_plan
from alps.plan.cost import CostEstimator
from alps.plan.view import print_plan, summary
from alps.runs.folder import RunFolder


def told(settings: list[str], own: list[str] = (), **tables) -> str:
    return "\n".join(summary(build_plan({"table": runs_of(settings)}, build_assumed(list(own)))))


def test_what_does_not_fit_is_said_with_what_would():
    grid = ["method=full", "model=llama3_2_3b,llama3_1_8b", "data=ultrachat", "optim=paper"]
    said = told([*grid, "trainer.strategy=ddp", "trainer.micro_batch_size=8"])
    assert "llama3_2_3b (full) needs 137.5 GiB: trainer.micro_batch_size=1 does" in said
    assert "does not fit" not in told(["method=full"], ["gpu=laptop"])


@pytest.mark.parametrize("asked", ["8", "auto"])
def test_what_no_micro_batch_makes_fit_is_said_with_the_memory_of_one_row(asked, make_run):
    grid = ("method=full", "model=llama3_1_8b", "data=ultrachat", "optim=paper", "trainer=ddp")
    grid = (*grid, "trainer.strategy=ddp")
    one_row = make_run(*grid, "trainer.micro_batch_size=1", "data.max_examples=null")
    cost = CostEstimator(build_assumed([])).estimate(one_row)
    assert cost is not None and cost.micro_batch == 1
    said = told([*grid, f"trainer.micro_batch_size={asked}"])
    assert f"llama3_1_8b (full) needs {cost.memory / GIB:.1f} GiB for one row: a shard on" in said


def test_what_is_sharded_is_said_with_its_precision():
    grid = ["method=full,lora,alps", "model=llama3_2_3b,llama3_1_8b", "data=ultrachat"]
    said = told([*grid, "optim=paper"])
    shown = "sharded: llama3_1_8b (full, alps) over 8 devices, in bf16-mixed instead of 16-mixed"
    assert shown in said and "fail" not in said
    assert said.count("sharded: ") == 1 and "instead of" not in told(grid)


def test_guesses_are_called_so():
    said = told(["method=full", "data=ultrachat,alpaca"])
    assert "alpaca 108, ultrachat 450 (a guess)" in said
    assert "utilisation=0.4" in said and "312 TFLOP/s" in said and "not in it: benchmarks" in said


def test_what_is_unknown_is_not_counted():
    said = told(["method=full", "model.path=org/name"])
    assert "distinct runs: 1" in said
    assert "not counted, as the model's shape or the number of rows is not known here" in said
    assert "name with mini_math" in said


def test_numbers_of_the_json_are_those_of_the_runs(tmp_path):
    out = f"output_dir={tmp_path}"
    runs = runs_of(["method=full,alps", "task_model=sft,fewer_data", "model=tiny", out])
    RunFolder(runs[0].folder).set_status("failed", "out of memory")
    plan = build_plan({"a": runs, "b": runs[:1]}, build_assumed(["gpu=h100_80g"]))
    plain = json.loads(json.dumps(plan.to_json()))
    assert plain["distinct_runs"] == 4 and plain["task_models_more"] == 1
    listed = [run for stage in plain["stages"] for run in stage["runs"]]
    assert [run["state"] for run in listed].count("failed") == 1
    assert plain["flops"] == sum(run["cost"]["flops"] for run in listed)
    hours = plain["flops"] / (989e12 * 0.4) / 3600
    assert abs(plain["gpu_hours"] / hours - 1) < 1e-9
    assert plain["gpu_hours_left"] == plain["gpu_hours"]  # what failed is to be done again
    assert {run["needs"] for run in listed if run["method"] == "alps"} == {
        run["key"] for run in plain["stages"][0]["runs"]
    }


def test_a_stage_is_a_table(capsys):
    plan = build_plan({"t": runs_of(["method=full,alps,lora", "model=tiny"])}, build_assumed([]))
    print_plan(plan)
    printed = capsys.readouterr().out
    assert printed.index("stage 1 of 2: task models") < printed.index("stage 2 of 2")
    assert "distinct runs: 3" in printed
    lines = [line for line in printed.splitlines() if line.startswith("all")]
    assert len(lines) == 1 and " 2 " in lines[0]


def vanilla(run, **changes):
    evals = replace(run.evals, **changes)
    return VanillaRows(runs=[replace(run, evals=evals)], command="alps evaluate -m experiment=a")


def test_models_as_they_are_are_counted_once_and_read_from_their_files(make_run):
    run = make_run("evals=mini", "evals.limit=2")
    first, other = run.evals.benchmarks[:1], run.evals.benchmarks[1:]
    tables = {
        "a": vanilla(run, benchmarks=first),
        "b": replace(vanilla(run, benchmarks=first), command="not needed"),
        "c": replace(vanilla(run, benchmarks=other), command="alps evaluate -m experiment=c"),
    }

    def plan():
        return build_plan({"a": [run]}, build_assumed([]), tables)

    assert [(e.tables, e.done) for e in plan().bases] == [(["a", "b"], False), (["c"], False)]
    assert "of models as they are (vanilla rows): 2, of which are done 0" in "\n".join(
        summary(plan())
    )
    evaluate_base(tables["a"].runs[0])
    plain = json.loads(json.dumps(plan().to_json()))["base_evaluations"]
    assert (plain["needed"], plain["done"]) == (2, 1)
    assert plain["commands"] == ["alps evaluate -m experiment=c"]
    assert [e["benchmarks"] for e in plain["evaluations"]] == [["held_out"], ["mini_math"]]
    lines = summary(plan())
    assert "evaluations of models as they are (vanilla rows): 2, of which are done 1" in lines
    assert [x for x in lines if "alps evaluate" in x] == [
        "to evaluate them: alps evaluate -m experiment=c"
    ]


def test_an_evaluation_that_cannot_be_read_is_told(make_run):
    run = make_run("evals=mini")
    write_json(RunFolder(run.base_folder).result_path, {"schema_version": 99})
    said = summary(build_plan({"a": [run]}, build_assumed([]), {"a": vanilla(run)}))
    (line,) = [x for x in said if x.startswith("failed: ")]
    assert run.base_key in line and "schema 99" in line
    assert "to evaluate them: alps evaluate -m experiment=a" in said


def test_a_table_without_vanilla_rows_has_nothing_to_say_of_them():
    assert "vanilla" not in told(["method=full", "model=tiny"])
