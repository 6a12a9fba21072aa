import re
import shutil

import pytest
from hydra import compose
from omegaconf import OmegaConf
from yaml import YAMLError

from alps.base.serialization import SettingsError
from alps.config.build import build, compose_config, runs_of
from alps.config.compose import composed, conf_dir, expand_shorthand, grid_problems, loader
from alps.config.errors import error_messages
from alps.models.checkpoint import materialize


@pytest.mark.parametrize(
    "override",
    ["model=tiny", "model=tiny,smollm2_135m", "data=a/b", "model.path=a/b", "model=nothing"],
)
def test_other_settings_stay_as_they_are(override):
    assert expand_shorthand([override]) == [override]


def test_a_hub_id_or_folder_is_a_path(tmp_path):
    (tmp_path / "here").mkdir()
    for place in ("meta-llama/Llama-3.2-1B", str(tmp_path / "here"), "here", "./elsewhere"):
        assert expand_shorthand([f"model={place}", "seed=1"]) == [f"model.path={place}", "seed=1"]


def test_a_model_in_a_folder_is_named_by_it(make_run):
    folder = materialize(make_run().model)
    run = build(compose_config([f"model={folder}", "evals=none"]))
    assert run.model.name == folder.name and run.model.path == str(folder)
    (same,) = runs_of([f"model={folder}", "evals=none"])
    assert same.key == run.key


ADD = "+evals/benchmark@evals.benchmarks"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[gsm8k,arc_challenge]", ["gsm8k", "arc_challenge"]),
        ("[ gsm8k , 'ifeval', gsm8k]", ["gsm8k", "ifeval"]),
        ("gsm8k", ["gsm8k"]),
        ("[math]", ["math"]),  # the benchmark; without brackets the set of that name
        ("[]", []),
    ],
)
def test_benchmarks_by_name(value, names):
    told = expand_shorthand([f"evals={value}", "seed=1"])
    assert told[0] == "evals=none" and told[-1] == "seed=1"
    run = build(compose_config([f"evals={value}", "evals.limit=3", "model=tiny"]))
    assert [(b.name, b.limit) for b in run.evals.benchmarks] == [(name, 3) for name in names]
    assert run.evals.name == ("+".join(names) or "none")
    several = runs_of([f"evals={value}", "model=tiny", "method=full,no_attn"])
    assert [each.evals.name for each in several] == [run.evals.name] * 2


def test_sets_of_benchmarks_stay_as_they_are():
    for override in ("evals=math", "evals=mini,none", "evals=nothing", "evals.limit=[a]"):
        assert expand_shorthand([override]) == [override]


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        (["evals=[gsm8,ifeval]"], ["there is no evals/benchmark=gsm8, did you mean 'gsm8k'?"]),
        (["evals=[gsm8k]", "methd=full"], ["methd is not a setting, did you mean 'method'?"]),
        ([f"{ADD}.x=gsm8k", "methd=full"], ["methd is not a setting, did you mean 'method'?"]),
        (
            ["evals=[gsm8k]", "evals.benchmarks.gsm8k.limitt=1"],
            ["evals.benchmarks.gsm8k.limitt is not a setting of evals=none, did you mean 'limit'?"],
        ),
    ],
)
def test_benchmarks_by_name_that_are_not_there(overrides, problems):
    with pytest.raises(SettingsError) as refusal:
        compose_config(overrides)
    assert refusal.value.problems == problems


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["experiment=table1", "experiment=table2"], "table1,table2: one command runs one exp"),
        (["experiment=table1,table2"], "table1,table2: one command runs one experiment"),
        (["experiment=table1", "scale=mini,paper"], "scale=mini,paper: one command has one scale"),
        (["experiment=table1", "grid.methods=alps,kl"], "grid.methods=alps,kl is no axis: set"),
        (["experiment=table1", "scale=mini", "method=alps,kl", "grid.methods='alps,kl'"], None),
    ],
)
def test_sweeps_that_mean_something_else_are_refused(overrides, said):
    problems = grid_problems(overrides)
    assert len(problems) == (said is not None) and (said is None or said in problems[0])


@pytest.mark.parametrize("command", ["train", "plan", "report"])
def test_they_are_refused_by_every_command(alps, command):
    done = alps(command, "experiment=table1", "scale=mini,paper", check=2)
    assert done.stderr == "error: scale=mini,paper: one command has one scale\n"


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: 1\nb: [c\n")
    with pytest.raises(YAMLError) as refusal:
        OmegaConf.load(path)
    (said,) = error_messages(refusal.value)
    assert re.fullmatch(rf"line \d of {re.escape(str(path))} cannot be read as YAML \(.+\)", said)


@pytest.mark.parametrize(("cause", "told"), [("b c", "a: b c"), ("d", "a: b c (d)")])
def test_a_cause_is_told_unless_it_was(cause, told):
    error = ValueError("a: b c")
    error.__cause__ = ValueError(cause)
    assert error_messages(error) == [told]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "ratio=${seed}", "optim.betas=[0.1,0.2]"],
        ["data.max_examples=8", "method=lora", "method.rank=4", "+mine.x=[1,2]", "++seed=4"],
        ["optim={lr: 1}", "optim.lr=2", "~ratio"],
        ["optim.lr=2", "optim={lr: 1}"],
        ["preset=demo", "+data@task_model.data=mini_code"],
        ["transfer=math", "evals=own_task"],
        [
            "evals=none",
            "+evals/benchmark@evals.benchmarks.x=mini_code",
            "evals.benchmarks.x.limit=1",
        ],
        ["hydra.verbose=true", "seed=3", "output_dir=${hydra.job.name}"],
        ["experiment=table1", "scale=mini", "scale.optim=paper"],
    ],
)
def test_shared_choices_compose_as_by_hydra(overrides):
    with loader():
        for text in [None, *overrides]:  # every prefix leaves its choices behind
            composed("train", overrides[: overrides.index(text) + 1] if text else [])
        expected, found = compose("train", overrides), composed("train", overrides)
    assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)
    assert OmegaConf.is_struct(found) and OmegaConf.is_struct(found.optim)


@pytest.mark.parametrize(
    "overrides",
    [["seeds=1"], ["seed=0,1"], ["model=tiny,alps"], ["optim.lr.x=1"], ["data@x=alpaca"],
     ["~modle"], ["method=nope", "seed=1"], ["+seed=1"], ["data.x=[1"]],
)  # fmt: skip
def test_shared_choices_are_refused_as_by_hydra(overrides):
    said = []
    for function in (compose, composed):
        with loader(), pytest.raises(Exception) as refusal:
            function("train", overrides)
        said.append((refusal.type, str(refusal.value)))
    assert said[0] == said[1]


def test_values_of_one_composition_do_not_reach_the_next():
    first = compose_config(["model=tiny", "optim.lr=7"])
    first.optim.betas[0] = 0.5
    assert compose_config(["model=tiny"]) == compose_config(["model=tiny", "optim.lr=1e-4"])
    assert compose_config(["model=tiny"]).optim.betas[0] != 0.5


def test_a_changed_file_is_read_again(tmp_path, monkeypatch):
    shutil.copytree(conf_dir(), tmp_path / "conf")
    monkeypatch.setattr("alps.config.compose.conf_dir", lambda: tmp_path / "conf")
    assert compose_config([]).ratio == 0.1
    root = tmp_path / "conf/train.yaml"
    root.write_text(root.read_text().replace("ratio: 0.1", "ratio: 0.25"))
    assert compose_config([]).ratio == 0.25


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        (["logger=[csv,wandb]"], ["logger=csv", "logger.name=csv+wandb"]),
        (["logger=[ 'wandb', wandb ]"], ["logger=csv", "logger.name=wandb"]),
        (["logger=[]"], ["logger=csv", "logger.name=csv"]),
        (["logger=wandb"], ["logger=wandb"]),
        (["experiment=table2"], ["experiment=table2", "logger.group=table2"]),
        (["experiment=table2", "logger.group=own"], ["experiment=table2", "logger.group=own"]),
        (["experiment=null"], ["experiment=null"]),
    ],
)
def test_several_loggers_and_the_group_of_an_experiment(given, expanded):
    assert expand_shorthand(given) == expanded
    assert expand_shorthand(expanded) == expanded


def test_runs_of_an_experiment_are_a_group_and_keep_their_keys():
    small = ["experiment=table2", "model=tiny", "data=mini_math", "evals=none", "optim=mini"]
    runs, others = runs_of(small), runs_of([*small, "logger.group=null", "logger=wandb"])
    assert {run.logger.group for run in runs} == {"table2"}
    assert {run.logger.group for run in others} == {None}
    assert [run.key for run in runs] == [run.key for run in others]
