import pytest

from alps.config.build import runs_of
from alps.pipeline.prefetch import requirements

SMALL = ("model=tiny", "evals=mini", "data.max_examples=8")


def kinds(*overrides: str) -> list[tuple[str, str]]:
    return [(each.kind, each.name) for each in requirements(runs_of([*SMALL, *overrides]))]


def test_each_need_of_a_grid_is_named_once():
    found = kinds("method=alps,kl,random", "ratio=0.1,0.2", "seed=0,1", "data=mini_math")
    assert found == [
        ("model", "tiny"), ("data", "mini_math for tiny"),
        ("benchmark", "held_out"), ("benchmark", "mini_math"),
    ]  # fmt: skip


def test_a_task_model_of_other_data_needs_them_too():
    found = kinds("method=alps", "data=mini_math", "task_model=fewer_data")
    assert found.count(("data", "mini_math for tiny")) == 2, "10 % are other rows"


def test_a_given_task_model_is_fetched_and_compared(make_run, tmp_path):
    from alps.models.checkpoint import materialize

    task = materialize(make_run("model=tiny", "model.seed=1").model)
    given = ("method=alps", "task_model=readily", f"task_model.path={task}")
    (need,) = [n for n in requirements(runs_of([*SMALL, *given])) if n.kind == "task model"]
    assert need.fetch() == "q, k and v"


def test_what_a_model_is_is_told(make_run):
    (need,) = [n for n in requirements([make_run()]) if n.kind == "model"]
    assert need.fetch().startswith("2 layers of 8/2 heads, ")


def test_a_benchmark_may_need_nothing(make_run):
    benchmarks = [n for n in requirements(runs_of(SMALL)) if n.kind == "benchmark"]
    assert {n.fetch() for n in benchmarks} == {"needs nothing"}


@pytest.mark.parametrize("broken", ["weights", "tokenizer"])
def test_half_a_model_is_not_taken_for_one(make_run, tmp_path, broken):
    import shutil

    from alps.models.checkpoint import materialize

    whole = materialize(make_run().model)
    shutil.copytree(whole, tmp_path / "half")
    for path in (tmp_path / "half").glob("*.safetensors" if broken == "weights" else "token*"):
        path.unlink()
    run = make_run(f"model.path={tmp_path / 'half'}")
    (need,) = [n for n in requirements([run]) if n.kind == "model"]
    with pytest.raises((ValueError, OSError)):
        need.fetch()
