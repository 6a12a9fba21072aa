"""The one boundary to Hydra: a composed config becomes a `Run`, a grid becomes many.

Every complaint about a configuration is worded here, and all of them are told together. Past
`build` there is no DictConfig. Nothing here imports torch before a run is known to be well formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.families import Method, Scope, Source, Task
from alps.localization.request import Request
from alps.plain import TARGET, SettingsError, did_you_mean, from_plain, target_class
from alps.settings import Evals, Logger, Model, Optim, Run, Trainer

VERSION_BASE = "1.3"
SHARED_WITH_METHODS = ("ratio", "scope", "task_model")
"""Settings of a run that a method receives if it declares a field of that name."""


def conf_dir() -> Path:
    """`alps/conf` in an installed wheel, else `conf` beside `src` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def register_resolvers() -> None:
    """What the YAML files call: `run_key:` names a run's folder, `absolute:` makes a path so."""
    OmegaConf.register_new_resolver("run_key", _key_or_placeholder, replace=True)
    OmegaConf.register_new_resolver("absolute", lambda p: str(Path(p).resolve()), replace=True)


def build(config: DictConfig) -> Run:
    """The run a composed config describes.

    Raises:
        SettingsError: All problems together.
    """
    problems: list[str] = []
    plain = plain_config(config)
    problems += _shared_problems(plain)
    data = _part(plain["data"], Source, "data", problems)
    evals = None
    if data is not None:
        evals = build_evals(plain["evals"], data.task, problems)
    method = _method(plain, problems) if not problems else None
    parts: dict[str, Any] = {"method": method, "data": data, "evals": evals}
    parts["model"] = _part(_named_by_path(plain["model"]), Model, "model", problems)
    for name, cls in {"optim": Optim, "trainer": Trainer, "logger": Logger}.items():
        parts[name] = _part(plain[name], cls, name, problems)
    for name, kind, word in (("seed", int, "a whole number"), ("output_dir", str, "a path")):
        if not isinstance(plain[name], kind):
            problems.append(f"{name} must be {word}, got {plain[name]!r}")
    if problems:
        raise SettingsError(problems)
    run = Run(**parts, seed=plain["seed"], output_dir=plain["output_dir"])
    if problems := list(run.problems()):
        raise SettingsError(problems)
    return run


def build_evals(plain: Mapping[str, Any], task: Task, problems: list[str]) -> Evals | None:
    """The benchmarks of a set; with `follow_task`, only those of the data's task.

    Args:
        plain: The `evals` part of a config.
        task: The data's task.
        problems: Receives what cannot be used.
    """
    chosen = dict(plain)
    benchmarks = [dict(b) for b in chosen.pop("benchmarks").values()]
    limit, follow = chosen.pop("limit"), chosen.pop("follow_task")
    if follow:
        benchmarks = [b for b in benchmarks if b.get("task") in (None, task)]
    if limit is not None:
        benchmarks = [{**b, "limit": limit} for b in benchmarks]
    return _part({**chosen, "benchmarks": benchmarks}, Evals, "evals", problems)


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
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="train"):
            return compose(config_name, list(overrides), return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(explain(overrides, error, config_name)) from None


def expand(config: DictConfig, loader: ConfigLoader) -> list[tuple[str, DictConfig]]:
    """The points of a grid, each with the overrides that make it one.

    Args:
        config: The config Hydra composed for a multirun.
        loader: Hydra's own.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    grid = [f"{k}={v}" for k, v in (config.hydra.sweeper.params or {}).items()]
    arguments = [*grid, *config.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    points = BasicSweeper.split_arguments(parsed, None)[0]
    return [(", ".join(p), loader.load_sweep_config(config, list(p))) for p in points]


class Preflight(Callback):
    """Builds and validates every point before any folder is made or any point runs.

    Hydra turns an Exception in a callback into a warning and goes on; only SystemExit ends it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One run."""
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
    """What this process set out to do; read by the command line when it is done."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.runs: list[Run] = []
        self.sweep_dir: Path | None = None


planned = Planned()


def refuse(problems: Iterable[str]) -> int:
    """Prints problems as one sentence to stderr; returns the exit code of a refusal."""
    import sys

    print(f"error: {'; '.join(dict.fromkeys(problems))}", file=sys.stderr)
    return 2


def explain(
    overrides: Sequence[str], error: Exception | None = None, config_name: str = "train"
) -> list[str]:
    """Why Hydra could not compose these overrides: all complaints, in the user's words.

    Args:
        overrides: As given on the command line, sweeps included.
        error: What Hydra said, used if nothing better is found.
        config_name: Root config.
    """
    problems: list[str] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(OverridesParser.create().parse_override(text))
        except HydraException as trouble:
            hint = """values with special characters need quotes, as in 'name="value"'"""
            problems.append(f"'{text}' cannot be read ({_first_line(trouble)}): {hint}")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="train"):
        loader = GlobalHydra.instance().config_loader()
        choices: dict[str, list[str]] = {}
        for override in parsed:
            options = loader.get_group_options(override.key_or_group)
            if options:
                values = _values(override)
                problems += [
                    f"there is no {override.key_or_group}={v}{did_you_mean(v, options)}"
                    for v in values
                    if v not in options and v not in ("null", "None")
                ]
                choices[override.key_or_group] = [v for v in values if v in options]
        good = [f"{group}={values[0]}" for group, values in choices.items() if values]
        for override in parsed:
            problems += _key_problems(override, good, choices, config_name)
        problems += _value_problems(parsed, good, config_name)
    return problems or [_first_line(error) if error else "this configuration cannot be composed"]


def _key_problems(
    override: Override, good: list[str], choices: dict[str, list[str]], config_name: str
) -> list[str]:
    """Whether a plain setting exists, under every choice of its group that was asked for."""
    key = override.key_or_group
    is_group = key in choices
    if is_group or override.is_add() or override.is_delete() or key.startswith("hydra"):
        return []
    top = key.split(".")[0]
    problems = []
    for choice in choices.get(top) or [None]:
        config = compose(config_name, [*good, f"{top}={choice}"] if choice else good)
        node: Any = config
        for depth, name in enumerate(key.split(".")):
            if not OmegaConf.is_dict(node) or name not in list(node):  # `in` misses `???`
                known = [str(k) for k in node] if OmegaConf.is_dict(node) else []
                place = ".".join(key.split(".")[:depth])
                of = f" of {top}={choice}" if choice else ""
                hint = did_you_mean(name, [k for k in known if k not in ("name", TARGET)])
                problems.append(f"{key} is not a setting{of}{hint if known else f' of {place}'}")
                break
            node = None if OmegaConf.is_missing(node, name) else node[name]
    return problems


def _value_problems(parsed: list[Override], good: list[str], config_name: str) -> list[str]:
    """What `build` has to say about the overrides that Hydra accepts, one sweep value at a time."""
    plain = [o for o in parsed if not o.is_sweep_override()]
    accepted = list(good)
    for text in (o.input_line for o in plain if o.input_line):
        if _composed([*accepted, text], config_name) is not None:
            accepted.append(text)
    swept = [f"{o.key_or_group}={v}" for o in parsed if o.is_sweep_override() for v in _values(o)]
    problems = []
    for extra in ([], *([s] for s in swept)):
        config = _composed([*accepted, *extra], config_name)
        try:
            if config is not None:
                (build_request if config_name == "localize" else build)(config)
        except SettingsError as error:
            problems += error.problems
    return problems


def _composed(overrides: list[str], config_name: str) -> DictConfig | None:
    try:
        return compose(config_name, overrides)
    except (HydraException, OmegaConfBaseException):
        return None


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
            problems.append(f"{place}{_first_line(error)}")
    if problems:
        raise SystemExit(refuse(_without_repeats(problems)))
    planned.runs.extend(runs)


def _without_repeats(problems: list[str]) -> list[str]:
    """A problem that every point of a sweep has is told once."""
    seen: dict[str, str] = {}
    for problem in problems:
        seen.setdefault(re.sub(r"^point \[.*?\]: ", "", problem), problem)
    return list(seen.values())


def _key_or_placeholder(*, _root_: DictConfig) -> str:
    try:
        return build(_root_).key
    except Exception:  # a resolver that raises would end a sweep half way; Preflight tells why
        return "invalid"


def plain_config(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's own part, as plain values."""
    names = [str(k) for k in config if k != "hydra"]
    masked = OmegaConf.masked_copy(config, names)
    masked._set_parent(config._get_parent())
    plain = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def _part(plain: Any, cls: type, where: str, problems: list[str]) -> Any:
    try:
        return from_plain(plain, cls, where)
    except SettingsError as error:
        problems += error.problems
        return None


def _method(plain: Mapping[str, Any], problems: list[str]) -> Method | None:
    settings = dict(plain["method"])
    try:
        wanted = {f.name for f in fields(target_class(settings.get(TARGET, ""), Method))}
    except ValueError as error:
        problems.append(f"method: {error}")
        return None
    shared = {name: plain[name] for name in SHARED_WITH_METHODS if name in wanted}
    method = _part({**settings, **shared}, Method, "method", problems)
    return method.normalized() if method else None


def _named_by_path(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model given by path is called by it, not by the choice it replaces."""
    path = model.get("path")
    return {**model, "name": Path(str(path)).name, "revision": "main"} if path else model


def _shared_problems(plain: Mapping[str, Any]) -> list[str]:
    """Mistakes in `ratio` and `scope`, which are mistakes for methods that ignore them too."""
    ratio, scope, scopes = plain["ratio"], plain["scope"], get_args(Scope)
    problems = []
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        problems.append(f"ratio must be a number, got {ratio!r}")
    elif not 0 <= ratio <= 1:
        problems.append(f"ratio must lie in [0, 1], got {ratio}")
    if scope not in scopes:
        problems.append(f"scope={scope} is not possible{did_you_mean(str(scope), scopes)}")
    return problems


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(v) for v in override.sweep_string_iterator()]
    return [str(override.value())]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
