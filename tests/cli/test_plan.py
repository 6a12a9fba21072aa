import json
import shlex
import sys

import pytest

from alps.cli.plan import base_evaluations, experiment_runs

SMALL = ("model=tiny", "data.max_examples=16", "evals=none", "trainer.progress=off")


def sentence(done) -> str:
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to plan: name a table"),
        (["gpu=a100_80g"], "nothing to plan"),
        (["experiment=tabel1"], "there is no experiment=tabel1, did you mean 'table1'?"),
        (["experiment=table1,tabel3"], "there is no experiment=tabel3, did you mean 'table3'?"),
        (["experiment=table1", "modle=tiny"], "modle is not a setting, did you mean 'model'?"),
        (["experiment=table1", "gpu=a1000"], "gpu=a1000 is not known, did you mean 'a100"),
        (["experiment=table1", "utilisation=2"], "utilisation must lie in (0, 1], got 2"),
        (["experiment=table1", "weights=some"], "weights=some is not possible"),
        (["experiment=table1", "format=xml"], "format=xml is not possible"),
        (["table1"], "'table1' is not understood"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, arguments, expected):
    assert expected in sentence(cli("plan", *arguments, check=2))


def test_the_line_to_look_for(cli):
    done = cli("plan", "experiment=table1,table2,table3", check=0)
    assert "distinct runs: 108\n" in done.stdout and not done.stderr


def test_no_torch_and_no_network(tmp_path):
    import subprocess

    code = (
        "import socket, sys; sys.argv = ['alps', 'plan', 'experiment=table1,table10']\n"
        "def refuse(*a, **k): raise AssertionError('asked the network')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from alps.cli.__main__ import main\n"
        "main()\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_gpu_of_one_s_own(cli):
    own = ("+gpus.mine={memory: 10, peak: 100}", "gpu=mine")
    done = cli("plan", "experiment=table1", *own, "format=json", check=0)
    assert json.loads(done.stdout)["gpu"] == "mine"


def test_trained_runs_are_done_and_cost_what_was_said(cli, tmp_path):
    cli("train", *SMALL, "method=full", check=0)
    grid = ("method=full,alps,random", *SMALL, "format=json")
    plan = json.loads(cli("plan", *grid, check=0).stdout)
    (full,), others = (stage["runs"] for stage in plan["stages"])
    assert full["state"] == "done" and {r["state"] for r in others} == {"missing"}
    assert 0 < plan["gpu_hours_left"] < plan["gpu_hours"]

    folder = tmp_path / "outputs" / "runs" / full["key"]
    weights = (folder / "weights" / "trained.safetensors").stat().st_size
    assert full["cost"]["weights"] < weights < full["cost"]["weights"] + 10_000
    result = json.loads((folder / "result.json").read_text())
    each = result["flops_per_token_forward"] + result["flops_per_token_backward"]
    assert full["cost"]["flops"] / full["cost"]["tokens"] == pytest.approx(each, rel=0.2)

    more = json.loads(cli("plan", *grid, "evals=mini", check=0).stdout)
    (full,) = more["stages"][0]["runs"]
    assert full["state"] == "trained"  # nothing is trained again for another benchmark
    assert more["gpu_hours_left"] == plan["gpu_hours_left"]


def test_an_evaluation_of_the_models_of_a_grid(cli, tmp_path):
    grid = ("-m", "method=full,random", "model=tiny", "data=mini_math,mini_general")
    done = cli("evaluate", *grid, "evals.limit=2", check=0)
    folders = list((tmp_path / "outputs" / "evals").iterdir())
    assert len(folders) == 3 and "mini_general" in done.stdout  # one for both, one for each loss
    assert not (tmp_path / "outputs" / "runs").exists()


def test_the_models_of_table_1_as_they_are(cli, tmp_path):
    """Each data's own benchmark and loss; the second time there is nothing to do."""
    grid = ("-m", "experiment=table1", "scale=mini", "model=tiny", "evals.limit=2")
    data = ("data=mini_general,mini_math",)
    cli("evaluate", *grid, *data, check=0)
    found = sorted(p.parent.name for p in (tmp_path / "outputs" / "evals").rglob("evals/*/*.json"))
    assert found == ["held_out", "held_out", "mini_general", "mini_math"]
    again = cli("evaluate", *grid, *data, check=0)
    assert "evaluating" not in again.stderr and again.stdout.count("held_out") == 2


@pytest.mark.parametrize(
    ("settings", "count", "told"),
    [
        ([], 3, "data=ultrachat"),
        (["scale=mini"], 1, "scale=mini data=mini_general"),
        (["data=mathinstruct,ultrachat", "seed=0,1"], 3, "seed=0,1 data=mathinstruct"),
        (["data=ultrachat", "data.name=own"], 3, "data=ultrachat data.name=own"),
    ],
)
def test_the_vanilla_rows_of_tables_5_and_13(settings, count, told):
    asked = ["experiment=table1,table5,table13", *settings]
    found = base_evaluations(experiment_runs(asked), asked)
    assert list(found) == ["table5", "table13"]
    for name, rows in found.items():
        assert len(rows.runs) == count
        assert rows.command == f"alps evaluate -m experiment={name} {told}"


@pytest.mark.sandbox  # all of it: without one, mini_code is skipped and its cells stay empty
def test_the_command_of_the_plan_evaluates_what_the_plan_counts(cli):
    asked = ("experiment=table5,table13", "scale=mini", "model=tiny", "evals.limit=2")
    before = json.loads(cli("plan", *asked, "format=json", check=0).stdout)["base_evaluations"]
    assert (before["needed"], before["done"]) == (1, 0)
    (command,) = before["commands"]
    gap = "of models as they are is filled by"
    assert "no run of it has finished" in cli("report", *asked, "figures=false", check=2).stderr
    cli(*shlex.split(command)[1:], check=0)
    after = json.loads(cli("plan", *asked, "format=json", check=0).stdout)["base_evaluations"]
    assert (after["needed"], after["done"], after["commands"]) == (1, 1, [])
    assert gap not in cli("report", *asked, "figures=false", check=0).stdout
