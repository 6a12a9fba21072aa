"""The boundary to Hydra: a composed config becomes a `Run`, a grid becomes many.

Past `build` there is no DictConfig. Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alps.base.serialization import TARGET, SettingsError, from_dict, target_class, value_problems
from alps.config import explain as explanation
from alps.config.compose import (
    composed,
    conf_dir,
    config_to_dict,
    expand_shorthand,
    grid_problems,
    loader,
)
from alps.config.errors import error_messages, without_repeats
from alps.config.grid import GridComposer
from alps.config.method_styles import without_report
from alps.config.overrides import check_overrides
from alps.localization.request import Request
from alps.plan.assumptions import Assumptions
from alps.settings.infrastructure import Evals, Logger, Trainer
from alps.settings.interfaces import Method, Protocol, Scope, Source, Task
from alps.settings.model import DEFAULT_REVISION, Model
from alps.settings.run import Optim, Run, Weights

SHARED_WITH_METHODS = ("ratio", "scope", "task_model")
"""Settings of a run that are passed to a method if it has a field of that name."""

OWN: Mapping[str, Any] = {
    "ratio": float,
    "scope": Scope,
    "seed": int,
    "output_dir": str,
    "weights": Weights,
    "fail_fast": bool,
    "debug": bool,
}
"""Types of a run's settings outside of its parts."""

PARTS = ("method", "model", "data", "optim", "trainer", "evals", "logger")
"""Config groups that are parts of a run."""

EVALS: Mapping[str, Any] = {
    "benchmarks": Mapping[str, Mapping[str, Any]],
    "follow_task": bool,
    "limit": int | None,
    "protocol": Protocol | None,
}
"""Settings of `evals` that determine its benchmarks."""

Parts = dict[str, Any]
"""Cache of parts of runs by their settings: the points of a grid share most of them."""


def register_resolvers() -> None:
    """Registers the resolvers of the YAML files: `run_key:` and `absolute:` (of a path)."""
    OmegaConf.register_new_resolver("run_key", _key_or_placeholder, replace=True)
    OmegaConf.register_new_resolver("absolute", lambda p: str(Path(p).resolve()), replace=True)


def build(config: DictConfig) -> Run:
    """The run a composed config describes.

    Raises:
        SettingsError: All problems together.
    """
    return build_run(config_to_dict(config), {})


def build_run(settings: Mapping[str, Any], parts: Parts) -> Run:
    """The run that a resolved config describes.

    Raises:
        SettingsError: All problems together.
    """
    problems = _own_problems(settings)
    if missing := [name for name in PARTS if name not in settings]:
        raise SettingsError([*problems, *(f"{name} is missing" for name in missing)])
    data = _part(settings["data"], Source, "data", problems, parts)
    evals = None
    if data is not None:
        evals = build_evals(settings["evals"], data.task, problems, parts)
    method = _method(settings, problems, parts) if not problems else None
    built: dict[str, Any] = {"method": method, "data": data, "evals": evals}
    built["model"] = _part(_named_by_path(settings["model"]), Model, "model", problems, parts)
    for name, cls in {"optim": Optim, "trainer": Trainer, "logger": Logger}.items():
        built[name] = _part(settings[name], cls, name, problems, parts)
    if problems:
        raise SettingsError(problems)
    run = Run(**built, seed=settings["seed"], output_dir=settings["output_dir"])
    if problems := list(run.problems()):
        raise SettingsError(problems)
    return run


def build_evals(
    settings: Mapping[str, Any], task: Task, problems: list[str], parts: Parts | None = None
) -> Evals | None:
    """The benchmarks of a set; with `follow_task`, only those of the data's task.

    Args:
        settings: The `evals` part of a config.
        task: The data's task.
        problems: Receives sentences about settings that cannot be used.
        parts: Cache of parts.
    """
    if wrong := _type_problems(settings, EVALS, "evals."):
        problems += wrong
        return None
    chosen = dict(settings)
    benchmarks = [dict(b) for b in chosen.pop("benchmarks").values()]
    if chosen.pop("follow_task"):
        benchmarks = [b for b in benchmarks if b.get("task") in (None, task)]
    limit, protocol = chosen.pop("limit"), chosen.pop("protocol")
    if limit is not None:
        benchmarks = [{**b, "limit": limit} for b in benchmarks]
    if protocol is not None:  # a held-out loss has no other protocol
        benchmarks = [
            b if b.get("protocol") == "answer_tokens" else {**b, "protocol": protocol}
            for b in benchmarks
        ]
    return _part({**chosen, "benchmarks": benchmarks}, Evals, "evals", problems, parts)


def build_request(config: DictConfig) -> Request:
    """Settings of `alps localize`; those that are no field of `Request` are metrics' options.

    Raises:
        SettingsError: All problems together.
    """
    missing = [f"{n}=... is missing" for n in ("base", "task") if OmegaConf.is_missing(config, n)]
    if missing:
        raise SettingsError(missing)
    settings = config_to_dict(config)
    own = {f.name: settings.pop(f.name) for f in fields(Request) if f.name in settings}
    return from_dict({**own, "options": settings}, Request)


def build_assumed(overrides: Sequence[str]) -> Assumptions:
    """Assumptions of `alps plan`.

    Raises:
        SettingsError: All problems together.
    """
    return from_dict(config_to_dict(compose_config(overrides, "plan")), Assumptions)


def model_choice(name: str) -> Model | None:
    """The model of that name in `conf/model`, or None."""
    if not os.path.exists(conf_dir() / "model" / f"{name}.yaml"):
        return None
    return from_dict(config_to_dict(compose_config([f"model={name}"]))["model"], Model, "model")


def compose_config(overrides: Sequence[str], config_name: str = "train") -> DictConfig:
    """One composed config, outside of a Hydra application.

    Args:
        overrides: As on the command line.
        config_name: Root config.

    Raises:
        SettingsError: If the overrides do not fit, all problems together.
    """
    register_resolvers()
    expanded = expand_shorthand(overrides)
    try:
        with loader() as hydra:
            check_overrides(expanded, hydra, config_name)
            return composed(config_name, expanded)
    except Exception as error:
        raise SettingsError(explain(expanded, error, config_name, sweeps=False)) from None


def runs_of(
    overrides: Sequence[str], composer: GridComposer | None = None, variants: bool = False
) -> list[Run]:
    """The distinct runs that `alps train -m` would do with these arguments.

    Args:
        overrides: As on the command line.
        composer: Shared by the grids of a caller.
        variants: Whether runs that differ in benchmarks or outputs folder alone are several.

    Raises:
        SettingsError: If some point of the grid is invalid, all problems together.
    """
    register_resolvers()
    problems = grid_problems(overrides)
    if problems:
        raise SettingsError(problems)
    runs: dict[str, Run] = {}
    composer, expanded = composer or GridComposer(), expand_shorthand(overrides)
    try:
        with loader() as hydra:
            check_overrides(expanded, hydra, "train", sweeps=True)
            for name, settings in composer.points(overrides, hydra):
                try:
                    run = build_run(settings, composer.parts)
                    variant = f" {run.evals!r} {run.output_dir}" if variants else ""
                    runs.setdefault(run.key + variant, run)
                except Exception as error:
                    problems += [f"point [{name}]: {p}" for p in error_messages(error)]
    except Exception as error:
        raise SettingsError(explain(expanded, error)) from None
    if problems:
        raise SettingsError(without_repeats(problems))
    return list(runs.values())


def check(overrides: Sequence[str], sweeps: bool) -> None:
    """Checks overrides without composing them, unless they are wrong.

    Args:
        overrides: As on the command line.
        sweeps: Whether several values make a grid.

    Raises:
        SettingsError: All problems together.
    """
    try:
        with loader() as hydra:
            check_overrides(overrides, hydra, "train", sweeps)
    except SettingsError as error:
        raise SettingsError(explain(overrides, error, sweeps=sweeps)) from None


def explain(
    overrides: Sequence[str],
    error: Exception | None = None,
    config_name: str = "train",
    sweeps: bool = True,
) -> list[str]:
    """All problems of overrides that Hydra could not compose, or `build` not accept."""
    builders = {"localize": build_request, "plan": config_to_dict}
    builder = builders.get(config_name, build)
    return explanation.explain(overrides, builder, error, config_name, sweeps)


def _key_or_placeholder(*, _root_: DictConfig) -> str:
    try:
        return build(_root_).key
    except Exception:  # a raising resolver would end a sweep half way; Preflight reports the error
        return "invalid"


def _part(
    settings: Any, cls: type, where: str, problems: list[str], parts: Parts | None = None
) -> Any:
    cache, name = {} if parts is None else parts, f"{where} {settings!r}"
    try:
        if name not in cache:
            cache[name] = from_dict(settings, cls, where)
        return cache[name]
    except SettingsError as error:
        problems += error.problems
        return None


def _method(settings: Mapping[str, Any], problems: list[str], parts: Parts) -> Method | None:
    own = settings["method"]
    if not isinstance(own, Mapping):
        problems.append(f"method must be a group of settings, got {own!r}")
        return None
    try:
        names = {f.name for f in fields(target_class(own.get(TARGET, ""), Method))}
    except ValueError as error:
        problems.append(f"method: {error}")
        return None
    shared = {n: settings[n] for n in SHARED_WITH_METHODS if n in names and n in settings}
    method = _part({**without_report(own), **shared}, Method, "method", problems, parts)
    return method.normalized() if method else None


def _named_by_path(model: Any) -> Any:
    """Model settings whose name follows from `path` and revision, if there is a path."""
    path = model.get("path") if isinstance(model, Mapping) else None
    if not isinstance(path, str) or not path:
        return model
    if os.path.exists(path):
        return {**model, "name": Path(path).name}
    repo, _, in_path = path.partition("@")
    revision = str(in_path or model.get("revision") or DEFAULT_REVISION)
    suffix = "" if revision == DEFAULT_REVISION else f"@{revision.replace('/', '-')[:12]}"
    return {**model, "name": f"{Path(repo).name}{suffix}"}


def _own_problems(settings: Mapping[str, Any]) -> list[str]:
    """Problems of settings outside of the parts, also for methods that ignore ratio and scope."""
    problems = _type_problems(settings, OWN)
    if "embed" in settings:
        problems.append("this experiment trains nothing: it is one of `alps embed experiment=...`")
    if not problems and not 0 <= settings["ratio"] <= 1:
        problems.append(f"ratio must lie in [0, 1], got {settings['ratio']}")
    return problems


def _type_problems(settings: Any, types: Mapping[str, Any], where: str = "") -> list[str]:
    """Sentences about settings that are missing or of another type."""
    if not isinstance(settings, Mapping):
        return [f"{where[:-1]} must be a group of settings, got {settings!r}"]
    problems = []
    for name, hint in types.items():
        missing = [f"{where}{name} is missing"]
        problems += (
            value_problems(settings[name], hint, f"{where}{name}") if name in settings else missing
        )
    return problems
