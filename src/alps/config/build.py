"""The one boundary to Hydra: a composed config becomes a `Run`, a grid becomes many.

Past `build` there is no DictConfig. Nothing here imports torch before a run is known to be well
formed. What Hydra itself refuses is worded in `complaints`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from alps.base.serialization import TARGET, SettingsError, from_dict, target_class, value_problems
from alps.config import errors as complaints
from alps.config.compose import conf_dir, grid_problems, loader, paths_told, plain_config, sentences
from alps.config.errors import refuse as refuse
from alps.config.errors import without_repeats
from alps.config.grid import Choices
from alps.config.method_styles import without_report
from alps.config.overrides import check_form
from alps.localization.request import Request
from alps.plan.assumptions import Assumptions
from alps.settings.infrastructure import Evals, Logger, Trainer
from alps.settings.interfaces import Method, Protocol, Scope, Source, Task
from alps.settings.model import DEFAULT_REVISION, Model
from alps.settings.run import Optim, Run, Weights

SHARED_WITH_METHODS = ("ratio", "scope", "task_model")
"""Settings of a run that a method receives if it declares a field of that name."""

OWN: Mapping[str, Any] = {
    "ratio": float,
    "scope": Scope,
    "seed": int,
    "output_dir": str,
    "weights": Weights,
    "debug": bool,
}
"""Settings of a run outside of its parts, and their types."""

PARTS = ("method", "model", "data", "optim", "trainer", "evals", "logger")
"""Settings of a run that are groups."""

EVALS: Mapping[str, Any] = {
    "benchmarks": Mapping[str, Mapping[str, Any]],
    "follow_task": bool,
    "limit": int | None,
    "protocol": Protocol | None,
}
"""Settings of `evals` that say what its benchmarks are."""

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
    problems = _own_problems(plain)
    if lacking := [name for name in PARTS if name not in plain]:
        raise SettingsError([*problems, *(f"{name} is missing" for name in lacking)])
    data = _part(plain["data"], Source, "data", problems, seen)
    evals = None
    if data is not None:
        evals = build_evals(plain["evals"], data.task, problems, seen)
    method = _method(plain, problems, seen) if not problems else None
    parts: dict[str, Any] = {"method": method, "data": data, "evals": evals}
    parts["model"] = _part(_named_by_path(plain["model"]), Model, "model", problems, seen)
    for name, cls in {"optim": Optim, "trainer": Trainer, "logger": Logger}.items():
        parts[name] = _part(plain[name], cls, name, problems, seen)
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
    wrong = _typed(plain, EVALS, "evals.")
    if wrong:
        problems += wrong
        return None
    chosen = dict(plain)
    benchmarks = [dict(b) for b in chosen.pop("benchmarks").values()]
    if chosen.pop("follow_task"):
        benchmarks = [b for b in benchmarks if b.get("task") in (None, task)]
    limit, protocol = chosen.pop("limit"), chosen.pop("protocol")
    if limit is not None:
        benchmarks = [{**b, "limit": limit} for b in benchmarks]
    if protocol is not None:  # a loss is not asked for in any protocol
        asked = {"protocol": protocol}
        benchmarks = [
            b if b.get("protocol") == "answer_tokens" else {**b, **asked} for b in benchmarks
        ]
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
    return from_dict({**own, "options": plain}, Request)


def build_assumed(overrides: Sequence[str]) -> Assumptions:
    """What `alps plan` takes for granted.

    Raises:
        SettingsError: All problems together.
    """
    return from_dict(plain_config(compose_config(overrides, "plan")), Assumptions)


def model_choice(name: str) -> Model | None:
    """The model of that name in `conf/model`, if there is one."""
    if not os.path.exists(conf_dir() / "model" / f"{name}.yaml"):
        return None
    return from_dict(plain_config(compose_config([f"model={name}"]))["model"], Model, "model")


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
    told = paths_told(overrides)
    try:
        with loader() as hydra:
            check_form(told, hydra, config_name)
            return compose(config_name, told, return_hydra_config=with_hydra)
    except Exception as error:
        raise SettingsError(explain(told, error, config_name, sweeps=False)) from None


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
            check_form(paths_told(overrides), hydra, "train", sweeps=True)
            for name, plain in choices.points(overrides, hydra):
                try:
                    run = _run_of(plain, choices.parts)
                    runs.setdefault(run.key, run)
                except Exception as error:
                    problems += [f"point [{name}]: {p}" for p in sentences(error)]
    except Exception as error:
        raise SettingsError(explain(paths_told(overrides), error)) from None
    if problems:
        raise SettingsError(without_repeats(problems))
    return list(runs.values())


def check(overrides: Sequence[str], sweeps: bool) -> None:
    """Refuses overrides whose form alone says that they cannot be meant.

    Args:
        overrides: As on the command line.
        sweeps: Whether several values make a grid.

    Raises:
        SettingsError: All that is wrong with them, together.
    """
    try:
        with loader() as hydra:
            check_form(overrides, hydra, "train", sweeps)
    except SettingsError as error:
        raise SettingsError(explain(overrides, error, sweeps=sweeps)) from None


def explain(
    overrides: Sequence[str],
    error: Exception | None = None,
    config_name: str = "train",
    sweeps: bool = True,
) -> list[str]:
    """All complaints about overrides that Hydra could not compose, or `build` not accept."""
    builders = {"localize": build_request, "plan": plain_config}
    builder = builders.get(config_name, build)
    return complaints.explain(overrides, builder, error, config_name, sweeps)


def _key_or_placeholder(*, _root_: DictConfig) -> str:
    try:
        return build(_root_).key
    except Exception:  # a resolver that raises would end a sweep half way; Preflight tells why
        return "invalid"


def _part(plain: Any, cls: type, where: str, problems: list[str], seen: Seen | None = None) -> Any:
    known, name = {} if seen is None else seen, f"{where} {plain!r}"
    try:
        if name not in known:
            known[name] = from_dict(plain, cls, where)
        return known[name]
    except SettingsError as error:
        problems += error.problems
        return None


def _method(plain: Mapping[str, Any], problems: list[str], seen: Seen) -> Method | None:
    settings = plain["method"]
    if not isinstance(settings, Mapping):
        problems.append(f"method must be a group of settings, got {settings!r}")
        return None
    try:
        wanted = {f.name for f in fields(target_class(settings.get(TARGET, ""), Method))}
    except ValueError as error:
        problems.append(f"method: {error}")
        return None
    shared = {n: plain[n] for n in SHARED_WITH_METHODS if n in wanted and n in plain}
    method = _part({**without_report(settings), **shared}, Method, "method", problems, seen)
    return method.normalized() if method else None


def _named_by_path(model: Any) -> Any:
    """A model given by path is called by it (and its revision), not by the choice it replaces."""
    path = model.get("path") if isinstance(model, Mapping) else None
    if not isinstance(path, str) or not path:
        return model
    if os.path.exists(path):
        return {**model, "name": Path(path).name}
    place, _, in_path = path.partition("@")
    revision = str(in_path or model.get("revision") or DEFAULT_REVISION)
    shown = "" if revision == DEFAULT_REVISION else f"@{revision.replace('/', '-')[:12]}"
    return {**model, "name": f"{Path(place).name}{shown}"}


def _own_problems(plain: Mapping[str, Any]) -> list[str]:
    """Mistakes in settings outside of the parts, also for methods that ignore ratio and scope."""
    problems = _typed(plain, OWN)
    if "embed" in plain:
        problems.append("this experiment trains nothing: it is one of `alps embed experiment=...`")
    ratio = plain.get("ratio")
    if not problems and not 0 <= plain["ratio"] <= 1:
        problems.append(f"ratio must lie in [0, 1], got {ratio}")
    return problems


def _typed(plain: Any, types: Mapping[str, Any], where: str = "") -> list[str]:
    """Sentences about settings that are missing or of another type."""
    if not isinstance(plain, Mapping):
        return [f"{where[:-1]} must be a group of settings, got {plain!r}"]
    problems = []
    for name, hint in types.items():
        lacking = [f"{where}{name} is missing"]
        problems += (
            value_problems(plain[name], hint, f"{where}{name}") if name in plain else lacking
        )
    return problems
