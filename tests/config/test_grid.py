import pytest
from hydra.types import RunMode

from alps.base.serialization import SettingsError
from alps.config.build import build, build_run, register_resolvers, runs_of
from alps.config.compose import conf_dir, expand, expand_shorthand, loader
from alps.config.grid import GridComposer
from alps.settings.run import Run

pytestmark = pytest.mark.usefixtures("fast_yaml")
EXPERIMENTS = sorted(p.stem for p in (conf_dir() / "experiment").glob("*.yaml"))
EXPERIMENTS.remove("figure7")  # trains nothing


class EveryNth:
    """Hydra's loader, composing the first of n points only: each takes a tenth of a second."""

    def __init__(self, hydra, n: int):
        self.hydra, self.n, self.seen = hydra, n, 0

    def __getattr__(self, name):
        return getattr(self.hydra, name)

    def load_sweep_config(self, config, point):
        self.seen += 1
        taken = (self.seen - 1) % self.n == 0
        return self.hydra.load_sweep_config(config, point) if taken else None


def by_hydra(overrides: list[str], every: int = 1) -> dict[str, Run]:
    register_resolvers()
    with loader() as hydra:
        typed = expand_shorthand(overrides)
        grid = hydra.load_configuration("train", typed, run_mode=RunMode.MULTIRUN)
        points = expand(grid, EveryNth(hydra, every))
        return {name: build(config) for name, config in points if config is not None}


def quickly(overrides: list[str]) -> dict[str, Run]:
    register_resolvers()
    with loader() as hydra:
        return {
            name: build_run(plain, {}) for name, plain in GridComposer().points(overrides, hydra)
        }


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["paper", "mini"])
def test_points_are_those_that_hydra_composes(experiment: str, scale: str):
    overrides = [f"experiment={experiment}", f"scale={scale}"]
    found = quickly(overrides)
    wanted = by_hydra(overrides, every=13 if scale == "paper" else 3)
    assert len(wanted) >= 1
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=table4", "scale=mini", "data=mini_math"],  # touched by transfer, too
        ["experiment=table4", "scale=mini", "task_model=fewer_data"],
        ["experiment=table1", "scale=mini", "preset=demo", "method=alps,full"],
        ["experiment=table1", "scale=mini", 'grid.methods="alps,full"'],
        ["experiment=table1", "scale=mini", "scale.optim=paper", "method=alps"],
        ["experiment=table3", "scale=mini", "scope=heads_only", "seed=0,1", "data=mini_code"],
        ["experiment=table1", "scale=mini", "method=alps", "data.max_examples=8", "++data.name=x"],
        ["experiment=table1", "scale=mini", "method=lora", "trainer=ddp", "optim.lr=1e-3,1e-4"],
        ["method=alps,random", "ratio=0.1,0.3", "model.path=org/name"],
        ["evals=held_out", "seed=0,1", "model=tiny"],
        ["evals=[gsm8k,held_out]", "evals.limit=2,4", "method=full"],
        ["+evals/benchmark@evals.benchmarks.mine=held_out", "seed=0,1"],
    ],
)
def test_overrides_mean_what_they_mean_to_hydra(overrides: list[str]):
    found = quickly(overrides)
    every = 1 if len(found) <= 6 else 3
    wanted = by_hydra(overrides, every)
    assert len(wanted) == -(-len(found) // every)
    assert {name: found[name] for name in wanted} == wanted


def test_an_experiment_with_more_than_a_grid_is_composed(tmp_path):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    text = (
        "# @package _global_\nratio: 0.5\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}"
    )
    (folder / "own.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}/conf]"
    runs = runs_of([search, "experiment=own"])
    assert [(r.seed, r.method.ratio) for r in runs] == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["experiment=tabel1"], "there is no experiment=tabel1, did you mean 'table1'?"),
        (["experiment=table1", "modle=tiny"], "modle is not a setting, did you mean 'model'?"),
        (["experiment=table1", "data.frction=1"], "data.frction is not a setting"),
        (["experiment=table1", "grid.modls=tiny"], "grid.modls is not a setting"),
        (["experiment=table1", "scale=big"], "there is no scale=big"),
        (["experiment=table1", "ratio=7"], "ratio must lie in [0, 1], got 7"),
        (["experiment=table4", "transfer=maths"], "there is no transfer=maths"),
    ],
)
def test_what_does_not_fit_is_told(overrides, expected):
    with pytest.raises(SettingsError) as refused:
        runs_of(overrides)
    assert expected in "; ".join(refused.value.problems)


def test_choices_are_kept_from_grid_to_grid(monkeypatch):
    choices = GridComposer()
    first = runs_of(["experiment=table1", "scale=mini"], choices)
    monkeypatch.setattr("alps.config.grid._composed", None)  # everything is known by now
    second = runs_of(["experiment=table14", "scale=mini", "evals=mini"], choices)
    assert {r.key for r in second} < {r.key for r in first}
