import json
from pathlib import Path

import pytest
import yaml

from alps.base.serialization import SettingsError
from alps.cli.embed import parse_request
from alps.config.build import build, build_assumed, build_request, compose_config, conf_dir, explain
from alps.settings.infrastructure import LOGGERS

GROUPS = ("method", "model", "data", "task_model", "optim", "trainer", "evals", "logger", "scale")
FILES = sorted(conf_dir().rglob("*.yaml"))
NEEDS = {
    "jsonl": ["data.path={file}"],
    "readily": ["task_model.path=gpt-nowhere"],
    "given": ["method.path={heads}"],
    "localize": ["base=tiny", "task=tiny"],
}
HEADS = {"num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "heads": [[0, 1]]}


def problems(*overrides: str) -> str:
    with pytest.raises(SettingsError) as refused:
        build(compose_config(list(overrides)))
    return "; ".join(refused.value.problems)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(conf_dir())))
def test_every_yaml_composes_and_builds(path: Path, tmp_path):
    group, choice = str(path.parent.relative_to(conf_dir())), path.stem
    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "heads.json").write_text(json.dumps(HEADS))
    places = {"file": file, "heads": tmp_path / "heads.json"}
    extra = [e.format(**places) for e in NEEDS.get(choice, [])]
    if choice == "localize":
        build_request(compose_config(extra, choice))
    elif choice == "embed":
        assert parse_request([]).sources
    elif choice == "plan":
        assert build_assumed([]).device.memory > 0
    elif group == ".":
        build(compose_config(extra, choice))
    elif group == "evals/benchmark":
        override = f"+evals/benchmark@evals.benchmarks.{choice}={choice}"
        run = build(compose_config(["evals=none", override]))
        assert [b.name for b in run.evals.benchmarks] == [choice]
    elif group == "evals/how":  # no choice: what every set of benchmarks begins with
        assert set(yaml.safe_load(path.read_text())) < set(compose_config([])["evals"])
    elif choice == "figure7":
        with pytest.raises(SettingsError, match=r"trains nothing: it is one of `alps embed exper"):
            build(compose_config([f"{group}={choice}"]))
    elif group in ("experiment", "preset", "transfer", "hydra/launcher"):
        build(compose_config([f"{group}={choice}"]))
    else:
        assert group in GROUPS
        if group == "logger" and (package := LOGGERS[choice]):
            pytest.importorskip(package)
        config = compose_config([f"{group}={choice}", *extra])
        assert config[group]["name"] == choice
        build(config)


def test_the_defaults_are_those_of_the_design():
    run = build(compose_config([]))
    assert (run.method.name, run.method.ratio, run.method.scope) == ("alps", 0.1, "rest_trains")
    assert (run.model.name, run.data.name, run.optim.name) == (
        "smollm2_135m_q4", "mini_math", "mini",
    )  # fmt: skip
    assert run.seed == 0
    assert [b.name for b in run.evals.benchmarks] == ["held_out", "mini_math"]


def test_the_paper_optimizer_is_the_papers():
    optim = build(compose_config(["optim=paper"])).optim
    assert (optim.lr, optim.batch_size, optim.epochs) == (2e-5, 128, 3)
    assert (optim.betas, optim.weight_decay) == ((0.9, 0.999), 0.1)
    assert (optim.warmup_ratio, optim.min_lr_ratio, optim.precision) == (0.1, 0.1, "16-mixed")


def test_all_problems_are_told_together():
    said = problems("ratio=1.5", "optim.lr=-1", "optim.batch_size=0", "trainer.devices=0")
    assert "ratio must lie in [0, 1], got 1.5" in said
    assert "optim.lr must be positive" in said
    assert "optim.batch_size must be at least 1" in said
    assert "trainer.devices must be at least 1" in said


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["method=full", "ratio=1.5"], "ratio must lie in [0, 1], got 1.5"),
        (["ratio=0"], "ratio=0 leaves method=alps no head to train: use method=no_attn"),
        (["ratio=abc"], "ratio must be a number, got 'abc'"),
        (["scope=heads"], "scope=heads is not possible, did you mean 'heads_only'?"),
        (["method.kv_policy=some"], "method.kv_policy=some is not possible"),
        (["data=jsonl"], "data=jsonl needs a file: set data.path=<file.jsonl>"),
        (["data=jsonl", "data.path=/no/such.jsonl"], "data.path=/no/such.jsonl does not exist"),
        (["task_model=readily"], "task_model=readily needs a finished model"),
        (["method=lora", "method.rank=0"], "method.rank must be at least 1, got 0"),
        (["seed=x"], "seed must be a whole number, got 'x'"),
        (["evals.limit=0"], "must be at least 1, got 0"),
        (["data.fraction=0"], "data.fraction must lie in (0, 1], got 0"),
    ],
)
def test_bad_values_are_one_clear_sentence(overrides, expected):
    assert expected in problems(*overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["method=alpz"], "there is no method=alpz, did you mean 'alps'?"),
        (["method=alps,rndom"], "there is no method=rndom, did you mean 'random'?"),
        (["optim.lrr=1"], "optim.lrr is not a setting, did you mean 'lr'?"),
        (["rato=0.3"], "rato is not a setting, did you mean 'ratio'?"),
        (["method.rank=4"], "method.rank is not a setting"),
        (["method=full,lora", "method.rank=4"], "method.rank is not a setting of method=full"),
        (["optim.lr.x=4"], "optim.lr.x is not a setting"),
        (["optim.lr=[1"], "'optim.lr=[1' cannot be read"),
        (["method=alps,rndom", "ratio=0.1,2"], "ratio must lie in [0, 1], got 2"),
    ],
)
def test_what_hydra_refuses_is_worded_here(overrides, expected):
    assert expected in "; ".join(explain(overrides))


def test_several_kinds_of_mistakes_are_told_together():
    said = "; ".join(explain(["method=alpz", "optim.lrr=1", "ratio=7"]))
    assert "method=alpz" in said and "optim.lrr" in said and "ratio must lie" in said


def test_benchmarks_follow_the_data_s_task():
    run = build(compose_config(["data=mini_code"]))
    assert [b.name for b in run.evals.benchmarks] == ["held_out", "mini_code"]
    assert build(compose_config(["evals=none"])).evals.benchmarks == ()


def test_a_limit_reaches_every_benchmark():
    run = build(compose_config(["evals.limit=7"]))
    assert [b.limit for b in run.evals.benchmarks] == [7, 7]


def test_a_model_by_path_is_called_by_its_path(tmp_path):
    run = build(compose_config(["model.path=Qwen/Qwen2.5-0.5B"]))
    assert run.model.name == "Qwen2.5-0.5B"
    assert run.model.fingerprint() == "Qwen/Qwen2.5-0.5B@main"


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=Qwen/Qwen2.5-0.5B@v2"],
        ["model.path=Qwen/Qwen2.5-0.5B@v2"],
        ["model.path=Qwen/Qwen2.5-0.5B", "model.revision=v2"],
    ],
)
def test_a_revision_holds_however_it_is_given(overrides):
    run = build(compose_config(overrides))
    assert run.model.fingerprint() == "Qwen/Qwen2.5-0.5B@v2"
    assert run.model.name == "Qwen2.5-0.5B@v2"


def test_ratio_one_under_rest_trains_is_full():
    full = build(compose_config(["method=full"]))
    assert build(compose_config(["ratio=1"])).key == full.key
    assert build(compose_config(["ratio=1", "scope=heads_only"])).key != full.key


def test_a_task_model_can_come_from_another_dataset():
    run = build(compose_config(["+data@task_model.data=mini_general"]))
    assert run.task_run().data.name == "mini_general"
    assert run.task_run().method.name == "full"


NAMELESS = (".", "preset", "experiment", "transfer", "evals/how", "hydra/launcher")


def test_yaml_names_are_their_file_names():
    for path in FILES:
        group = path.parent.relative_to(conf_dir())
        if str(group) not in NAMELESS:
            assert yaml.safe_load(path.read_text())["name"] == path.stem, path
