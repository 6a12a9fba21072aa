"""The one boundary to Hydra: a composed config becomes a `Run`, a grid becomes many.

Past `build` there is no DictConfig. Nothing here imports torch before a run is known to be well
formed. What Hydra itself refuses is worded in `complaints`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps import complaints
from alps.complaints import first_line, refuse, without_repeats
from alps.composing import conf_dir, expand, grid_problems, loader, paths_told, plain_config
from alps.families import Method, Scope, Source, Task
from alps.grids import Choices
from alps.infrastructure import Evals, Logger, Trainer
from alps.localization.request import Request
from alps.plain import TARGET, SettingsError, did_you_mean, from_plain, target_class
from alps.plan.assumed import Assumed
from alps.settings import DEFAULT_REVISION, Model, Optim, Run, Weights

SHARED_WITH_METHODS = ("ratio", "scope", "task_model")
"""Settings of a run that a method receives if it declares a field of that name."""

Seen = dict[str, Any]
"""Parts of runs by their plain settings: the points of a grid share most of them."""


def register_resolvers() -> None:
    """What the YAML files call: `run_key:` names a run's folder, `absolute:` makes a path so."""
    OmegaConf.register_new_resolver("run_key", _key_or_placeholder, replace=True)
    OmegaConf.register_new_resolver("absolute", lambda p: str(Path(p).resolve()), replace=True)


def build(config: DictConfig) -> Run:
    """The run a composed config describes.

    Raises:
        SettingsError: All problems together.
    """
    return _run_of(plain_config(config), {})


def _run_of(plain: Mapping[str, Any], seen: Seen) -> Run:
    """The run that a config without interpolations describes."""
    problems: list[str] = []
    problems += _shared_problems(plain)
    data = _part(plain["data"], Source, "data", problems, seen)
    evals = None
    if data is not None:
        evals = build_evals(plain["evals"], data.task, problems, seen)
    method = _method(plain, problems, seen) if not problems else None
    parts: dict[str, Any] = {"method": method, "data": data, "evals": evals}
    parts["model"] = _part(_named_by_path(plain["model"]), Model, "model", problems, seen)
    for name, cls in {"optim": Optim, "trainer": Trainer, "logger": Logger}.items():
        parts[name] = _part(plain[name], cls, name, problems, seen)
    for name, kind, word in (("seed", int, "a whole number"), ("output_dir", str, "a path")):
        if not isinstance(plain[name], kind):
            problems.append(f"{name} must be {word}, got {plain[name]!r}")
    if problems:
        raise SettingsError(problems)
    run = Run(**parts, seed=plain["seed"], output_dir=plain["output_dir"])
    if problems := list(run.problems()):
        raise SettingsError(problems)
    return run


def build_evals(
    plain: Mapping[str, Any], task: Task, problems: list[str], seen: Seen | None = None
) -> Evals | None:
    """The benchmarks of a set; with `follow_task`, only those of the data's task.

    Args:
        plain: The `evals` part of a config.
        task: The data's task.
        problems: Receives what cannot be used.
        seen: Parts built before.
    """
    chosen = dict(plain)
    benchmarks = [dict(b) for b in chosen.pop("benchmarks").values()]
    if chosen.pop("follow_task"):
        benchmarks = [b for b in benchmarks if b.get("task") in (None, task)]
    limit, protocol = chosen.pop("limit"), chosen.pop("protocol")
    if limit is not None:
        benchmarks = [{**b, "limit": limit} for b in benchmarks]
    if protocol is not None:  # a loss is not asked for in any protocol
        asked = {"protocol": protocol}
        benchmarks = [b if b["protocol"] == "answer_tokens" else {**b, **asked} for b in benchmarks]
    return _part({**chosen, "benchmarks": benchmarks}, Evals, "evals", problems, seen)


def build_request(config: DictConfig) -> Request:
    """What `alps localize` is asked for; settings that are no field of it are metrics' options.

    Raises:
        SettingsError: All problems together.
    """
    missing = [f"{n}=... is missing" for n in ("base", "task") if OmegaConf.is_missing(config, n)]
    if missing:
        raise SettingsError(missing)
    plain = plain_config(config)
    own = {f.name: plain.pop(f.name) for f in fields(Request) if f.name in plain}
    return from_plain({**own, "options": plain}, Request)


def build_assumed(overrides: Sequence[str]) -> Assumed:
    """What `alps plan` takes for granted.

    Raises:
        SettingsError: All problems together.
    """
    return from_plain(plain_config(compose_config(overrides, "plan")), Assumed)


def model_choice(name: str) -> Model | None:
    """The model of that name in `conf/model`, if there is one."""
    if not (conf_dir() / "model" / f"{name}.yaml").exists():
        return None
    return from_plain(plain_config(compose_config([f"model={name}"]))["model"], Model, "model")


def compose_config(
    overrides: Sequence[str], config_name: str = "train", with_hydra: bool = False
) -> DictConfig:
    """One composed config, outside of a Hydra application.

    Args:
        overrides: As on the command line.
        config_name: Root config.
        with_hydra: Whether Hydra's own part (sweeper, folders) is kept.

    Raises:
        SettingsError: If the overrides do not fit, all problems together.
    """
    register_resolvers()
    try:
        with loader():
            return compose(config_name, paths_told(overrides), return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(explain(overrides, error, config_name)) from None


def runs_of(overrides: Sequence[str], choices: Choices | None = None) -> list[Run]:
    """The distinct runs that `alps train -m` would do with these arguments.

    Args:
        overrides: As on the command line.
        choices: Kept by a caller that asks for several grids.

    Raises:
        SettingsError: If some point of the grid does not fit, all problems together.
    """
    register_resolvers()
    problems = grid_problems(overrides)
    if problems:
        raise SettingsError(problems)
    runs: dict[str, Run] = {}
    choices = choices or Choices()
    try:
        with loader() as hydra:
            for name, plain in choices.points(overrides, hydra):
                try:
                    run = _run_of(plain, choices.parts)
                    runs.setdefault(run.key, run)
                except SettingsError as error:
                    problems += [f"point [{name}]: {p}" for p in error.problems]
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(explain(overrides, error)) from None
    if problems:
        raise SettingsError(without_repeats(problems))
    return list(runs.values())


def explain(
    overrides: Sequence[str], error: Exception | None = None, config_name: str = "train"
) -> list[str]:
    """All complaints about overrides that Hydra could not compose, or `build` not accept."""
    builders = {"localize": build_request, "plan": plain_config}
    builder = builders.get(config_name, build)
    return complaints.explain(paths_told(overrides), builder, error, config_name)


class Preflight(Callback):
    """Builds and validates every point before any folder is made or any point runs.

    Hydra turns an Exception in a callback into a warning and goes on; only SystemExit ends it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One run, here: Hydra would not tell a launcher that it has nothing to launch."""
        if "basic_launcher" not in config.hydra.launcher._target_:
            raise SystemExit(refuse(["hydra/launcher is for sweeps: add -m"]))
        _refuse_or_plan([("", config)], sweep=False)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A sweep; its table belongs beside Hydra's own notes about it."""
        planned.sweep_dir = Path(config.hydra.sweep.dir)
        if "basic_sweeper" not in config.hydra.sweeper._target_:
            return  # other sweepers draw their points later; each is validated as it comes
        try:
            points = expand(config, GlobalHydra.instance().config_loader())
        except (HydraException, OmegaConfBaseException) as error:
            raise SystemExit(refuse(explain(config.hydra.overrides.task, error))) from None
        _refuse_or_plan(points, sweep=True)


class Planned:
    """What this process set out to do; read by the command line as it goes and when it is done."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.runs: list[Run] = []
        self.complete = False
        """Whether no sweeper adds to `runs` later."""
        self.sweep_dir: Path | None = None
        self.weights: Weights = "keep"
        self.spared: set[str] = set()

    def add(self, runs: Sequence[Run], weights: Weights) -> None:
        """Plans runs under a policy for their weights."""
        from alps.retention import found_before

        self.runs += runs
        self.weights = weights
        self.spared |= found_before(runs)

    def reduce(self) -> None:
        """Gives disk back as the policy says; what a sweeper may still ask for stays."""
        from alps.retention import reduce_unneeded

        reduce_unneeded(self.runs, self.weights, self.spared)


planned = Planned()


def _refuse_or_plan(points: list[tuple[str, DictConfig]], sweep: bool) -> None:
    from alps.preflight import check

    problems: list[str] = []
    runs: list[Run] = []
    for name, config in points:
        place = f"point [{name}]: " if sweep and name else ""
        try:
            run = build(config)
            check(run)
            runs.append(run)
        except SettingsError as error:
            problems += [f"{place}{p}" for p in error.problems]
        except Exception as error:  # Hydra would only warn of it, and run the point
            problems.append(f"{place}{first_line(error)}")
    if problems:
        raise SystemExit(refuse(without_repeats(problems)))
    planned.add(runs, points[0][1].weights)
    planned.complete = True


def _key_or_placeholder(*, _root_: DictConfig) -> str:
    try:
        return build(_root_).key
    except Exception:  # a resolver that raises would end a sweep half way; Preflight tells why
        return "invalid"


def _part(plain: Any, cls: type, where: str, problems: list[str], seen: Seen | None = None) -> Any:
    known, name = {} if seen is None else seen, f"{where} {plain!r}"
    try:
        if name not in known:
            known[name] = from_plain(plain, cls, where)
        return known[name]
    except SettingsError as error:
        problems += error.problems
        return None


def _method(plain: Mapping[str, Any], problems: list[str], seen: Seen) -> Method | None:
    settings = dict(plain["method"])
    try:
        wanted = {f.name for f in fields(target_class(settings.get(TARGET, ""), Method))}
    except ValueError as error:
        problems.append(f"method: {error}")
        return None
    shared = {name: plain[name] for name in SHARED_WITH_METHODS if name in wanted}
    method = _part({**settings, **shared}, Method, "method", problems, seen)
    return method.normalized() if method else None


def _named_by_path(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model given by path is called by it (and its revision), not by the choice it replaces."""
    path = model.get("path")
    if not isinstance(path, str) or not path:
        return model
    place, _, in_path = path.partition("@")
    if Path(path).exists():
        return {**model, "name": Path(path).name}
    revision = str(in_path or model.get("revision") or DEFAULT_REVISION)
    shown = "" if revision == DEFAULT_REVISION else f"@{revision.replace('/', '-')[:12]}"
    return {**model, "name": f"{Path(place).name}{shown}"}


def _shared_problems(plain: Mapping[str, Any]) -> list[str]:
    """Mistakes in `ratio` and `scope`, also for methods that ignore them, and in `weights`."""
    ratio = plain["ratio"]
    problems = []
    if "embed" in plain:
        problems.append("this experiment trains nothing: it is one of `alps embed experiment=...`")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        problems.append(f"ratio must be a number, got {ratio!r}")
    elif not 0 <= ratio <= 1:
        problems.append(f"ratio must lie in [0, 1], got {ratio}")
    for name, choices in (("scope", get_args(Scope)), ("weights", get_args(Weights))):
        if (chosen := str(plain[name])) not in choices:
            problems.append(f"{name}={chosen} is not possible{did_you_mean(chosen, choices)}")
    return problems
