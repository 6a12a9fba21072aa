"""No override ends in a traceback: hundreds are drawn from a seed and typed, each as a command.

A run that is accepted is not trained here: `execute` makes its folder and returns.
"""

import logging
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random

import pytest
from omegaconf import OmegaConf

from alps.base.serialization import SettingsError
from alps.cli.__main__ import main
from alps.config.build import compose_config
from alps.config.compose import conf_dir
from alps.settings.run import Run

SMALL = {"model": "tiny", "evals": "none", "method": "random"}
NUM_DRAWS = 320
NUM_TESTS = 4
SEED = 7

NUMBERS = (
    "0", "-1", "1", "2", "7", "0.5", "1e-3", "-0", "0x10", "1_000", "nan", "inf", "-inf", "1e400",
    "4294967296", "9223372036854775808", "99999999999999999999999", "9" * 5000,
)  # fmt: skip
WORDS = (
    "null", "true", "false", "abc", "''", "' '", "'1e-3'", "tiny", "random", "alps", "mini", "none",
    "csv", "cpu", "x" * 255, "x" * 5000, "é中\u202e", "a\tb", "a\nb", "a\x00b", "'a''b'", "a b",
    "a=b", "\\", "\\,", '"open', "%", "$HOME", "@x", ":", "a:b", "(", ")", ",", "a,", "???",
    "a/b", "../x", "/etc/passwd", "/", "/proc/x", "~", "out/file",
)  # fmt: skip
COLLECTIONS = (
    "[]", "[1,2]", "[a,b]", "[null]", "[[]]", "{}", "{a:1}", "{_target_:os.getcwd}", "[a,[b]]",
)  # fmt: skip
INTERPOLATIONS = (
    "${nope}", "${oc.env:NOPE}", "${oc.env:HOME}", "${seed}", "${ratio}", "${.x}", "${.}", "${..}",
    "${", "${nores:}", "${oc.decode:'['}", "${method}",
)  # fmt: skip
SWEEPS = (
    "a,b", "1,2", "0.1,7", "full,alps", "tiny,nope", "1,null", "[1],[2]", "glob(*)", "glob(a*)",
    "choice(a,b)", "choice(1,2)", "choice()", "range(0,3)", "range(0)", "range(3,0)",
    "range(0,99999999)", "range(0,1,0)", "interval(0,1)", "sort(3,1)", "shuffle(1,2)", "tag(x,1)",
    "int(3)", "float(a)", "str(1)", "json_str({})",
)  # fmt: skip
VALUES = (NUMBERS, WORDS, COLLECTIONS, INTERPOLATIONS, SWEEPS)
HYDRA = (
    "hydra", "hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging",
    "hydra.callbacks", "hydra.callbacks.preflight", "hydra.callbacks.preflight._target_",
    "hydra.job", "hydra.job.chdir", "hydra.job.name", "hydra.job_logging",
    "hydra.job_logging.formatters", "hydra.launcher", "hydra.launcher._target_", "hydra.mode",
    "hydra.output_subdir", "hydra.run.dir", "hydra.searchpath", "hydra.sweep.dir",
    "hydra.sweep.subdir", "hydra.sweeper", "hydra.sweeper._target_", "hydra.sweeper.params",
    "hydra.sweeper.max_batch_size", "hydra.verbose",
)  # fmt: skip
STRANGE = (
    "", ".x", "x.", "a..b", "@", "a b", "é", "nope", "modle", "_target_", "defaults", "run",
    "embed", "ratio.x", "method.", "method._target_", "data._target_", "data/x", "data@", "model@x",
    "data@task_model.data", "evals/benchmark@evals.benchmarks.x", "evals.benchmarks.x.name",
    "grid", "grid.methods", "x" * 300,
)  # fmt: skip


@pytest.fixture(scope="module")
def keys() -> tuple[Sequence[str], ...]:
    """Settings of a run, groups, Hydra's own settings, and what is none of them."""

    def inside(node: object, path: str = "") -> Iterator[str]:
        for name, value in node.items() if isinstance(node, dict) else ():
            yield f"{path}{name}"
            yield from inside(value, f"{path}{name}.")

    config = compose_config(["model=tiny", "evals=mini"])
    settings = sorted(inside(OmegaConf.to_container(config, resolve=False)))
    groups = sorted(p.name for p in conf_dir().iterdir() if p.is_dir() and p.name != "hydra")
    return settings, groups, HYDRA, STRANGE


def drawn(random: Random, keys: Sequence[Sequence[str]]) -> str:
    """One override."""
    (kind,) = random.choices(keys, (8, 4, 2, 2))
    key, value = random.choice(kind), random.choice(random.choice(VALUES))
    form = "{key}={value}", "+{key}={value}", "++{key}={value}", "~{key}", "~{key}={value}"
    return random.choices(form, (14, 2, 2, 1, 1))[0].format(key=key, value=value)


def command(random: Random, keys: Sequence[Sequence[str]]) -> list[str]:
    """One to three overrides, beside those that make a run small; often of a sweep."""
    own = [drawn(random, keys) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    named = {text.lstrip("+~").split("=")[0] for text in own}
    small = [f"{name}={value}" for name, value in SMALL.items() if name not in named]
    return ["train", *(["-m"] if random.random() < 0.3 else []), *small, *own]


def make_folder(run: Run, fit: object) -> None:
    """In place of a training."""
    run.folder.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys, fast_yaml
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Types a command into this process; its exit code and what it said."""
    monkeypatch.setattr("alps.execute.execute", make_folder)
    monkeypatch.setattr("alps.cli.train._conclude", lambda plan: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["alps", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            root.handlers[:] = before[0]
        said = "".join(capsys.readouterr())
        assert isinstance(code, int), said
        return code, said

    yield run
    root.setLevel(before[1])


@pytest.mark.parametrize("part", range(NUM_TESTS))
def test_overrides_never_trace(part: int, call, keys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("no folder")
    before = set(tmp_path.rglob("*"))
    codes: Counter[int] = Counter()
    for i in range(part, NUM_DRAWS, NUM_TESTS):
        arguments = command(Random(f"{SEED} {i}"), keys)
        code, said = call(*arguments)
        codes[code] += 1
        told = f"draw {i}: {arguments} ended with {code}:\n{said}"
        assert code in (0, 1, 2) and "Traceback" not in said, told
        assert code == 0 or (said.count("error: ") == 1 and len(said.splitlines()) <= 12), told
        made = set(tmp_path.rglob("*")) - before
        assert code != 2 or not made, told
        for path in sorted(made, reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert codes[0] and codes[2], "some are accepted, and some refused"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=${oc.env:NOPE}"], "Environment variable 'NOPE' not found"),
        (["ratio=${nope}"], "ratio cannot be resolved (Interpolation key 'nope' not found)"),
        (["ratio=${ratio}"], "ratio cannot be resolved (Recursive interpolation"),
        (["seed=???"], "seed cannot be resolved (Missing mandatory value: seed)"),
        (["method=null"], "there is no method=null"),
        (["preset=null"], "preset=null: leave preset out"),
        (["data=3"], "there is no data=3"),
        (["logger=true"], "there is no logger=True"),
        (["optim=[paper,mini]"], "optim=['paper', 'mini'] is no choice: one run has one"),
        (["~model"], "~model: every run has its model; choose another one (llama2_7b, "),
        (["~ratio"], "ratio is missing"),
        (["~optim.lr"], "optim.lr is missing"),
        (["++rato=0.3"], "rato is not a setting, did you mean 'ratio'?"),
        (["ratio=0.1,0.3"], "ratio=0.1,0.3 names several values: only a grid ("),
        (["method=glob(*)"], "method=glob(*) names several values: only a grid ("),
        (["seed=range(0,3)"], "seed=range(0,3) names several values: only a grid ("),
        (["-m", "seed=0,1", "seed=2"], "seed=0,1 and seed=2 name one setting: give all its values"),
        (["-m", "seed=range(3,0)"], "seed=range(3,0) names no value"),
        (["-m", "seed=glob(*)"], "chooses among files, and seed is no folder of conf"),
        (["-m", "seed=range(0,101)", "optim.epochs=range(1,101)"], "more than 10000 points"),
        (["model=" + "a" * 255], "there is no model=aaa"),
        (["output_dir=" + "a" * 256], "aaa cannot be written to: name another folder"),
        (["output_dir=out/file"], "output_dir=out/file cannot be written to"),
        (["output_dir="], "output_dir must name a folder"),
        (["model.path=" + "a/" + "b" * 300], "b is neither a folder nor a hub id"),
        (["method.name=../x"], "method.name must be up to 100 letters, digits and ._+-"),
        (["method=alps", "task_model.method.name=a/b"], "task_model.method.name must be up to"),
        (["seed=-1"], "seed must lie in [0, 4294967295], got -1"),
        (["seed=4294967296"], "seed must lie in [0, 4294967295], got 4294967296"),
        (["ratio=nan"], "ratio must be a finite number, got nan"),
        (["optim.lr=inf"], "optim.lr must be a finite number, got inf"),
        (["optim.epochs=9223372036854775808"], "must be a whole number of at most 64 bits"),
        (["model.random.hidden_size=-1"], "model.random.hidden_size must be at least 1, got -1"),
        (["hydra/launcher=nope"], "there is no hydra/launcher=nope"),
        (["hydra.callbacks=null"], "hydra.callbacks=null: Hydra's callbacks hold the checks"),
        (["hydra.run.dir=out/file/x"], "Hydra's folder out/file/x cannot be written to"),
        (["hydra.job_logging.formatters=3"], "error: "),
        (["--ratio=0.3"], "--ratio=0.3: settings are written name=value, without dashes"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true would change what relative paths mean"),
        (["-m", "hydra.job.chdir=true", "seed=0,1"], "hydra.job.chdir=true would change what"),
        (["-m", "hydra.sweeper.params={seed:1}"], "name the values of a sweep themselves"),
        (["-m", "model=a/b,c/d"], "folders and hub ids are named by model.path"),
        (["--config-name=localize"], "--config-name=localize describes no run"),
        (["method.repor=1"], "method=random (one of: budget, depth, kv_policy, train_bias)"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_each_kind_is_one_sentence(call, tmp_path, arguments, expected):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    named = {text.lstrip("+~").split("=")[0] for text in arguments}
    small = [f"{name}={value}" for name, value in SMALL.items() if name not in named]
    code, said = call("train", *small, *arguments)
    assert code == 2 and expected in said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_long_value_is_cut_and_control_characters_are_escaped(call):
    code, said = call("train", "scope='a\tb" + "x" * 5000 + "'")
    assert code == 2 and "scope=a\\tbxxx" in said and len(said) < 2000


def test_a_folder_that_changes_in_an_experiment_is_refused_too(call, tmp_path):
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    text = "# @package _global_\nhydra: {job: {chdir: true}}"
    (folder / "moves.yaml").write_text(text)
    search = f"hydra.searchpath=['file://{folder.parent}']"
    code, said = call("train", "model=tiny", "evals=none", search, "experiment=moves")
    assert code == 2 and "hydra.job.chdir=true" in said and not (tmp_path / "outputs").exists()


def test_a_root_config_of_ones_own_begins_with_train(call, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/bare.yaml").write_text("seed: 3")
    code, said = call("train", "--config-dir=own", "--config-name=bare")
    assert code == 2 and "its defaults must begin with train" in said
    assert not (tmp_path / "outputs").exists()
    text = "defaults: [train, _self_, {override model: tiny}, {override evals: none}]\nseed: 3"
    (tmp_path / "own/whole.yaml").write_text(text)
    code, said = call("train", "--config-dir=own", "--config-name=whole", "method=random")
    assert code == 0 and len(list((tmp_path / "outputs/runs").iterdir())) == 1


def test_settings_that_something_reads_may_be_added(call, tmp_path):
    settings = ("model=tiny", "evals=none", "method=random")
    code, said = call("train", *settings, "+mine=3", "seed=${mine}")
    assert code == 0, said
    (run,) = (tmp_path / "outputs/runs").iterdir()
    three = compose_config([*settings, "seed=3"])
    from alps.config.build import build

    assert run.name == build(three).key


@pytest.mark.parametrize("name", ["train", "localize", "plan", "embed", "evaluate"])
def test_a_root_config_takes_one_value_of_each_setting(name):
    with pytest.raises(SettingsError, match=r"seed=1,2 names several values|seed is not"):
        compose_config(["seed=1,2"], name)
