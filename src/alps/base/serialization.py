"""Serialization of settings: dataclasses to `run.yaml`, and from it or a composed config.

A dataclass becomes a mapping with its class under `_target_`. Deserialization checks values against
the annotations and collects every problem, in terms of the user's settings.
"""

import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from inspect import isabstract, signature
from typing import Any, Literal, Union

TARGET = "_target_"

MOVED = {
    "alps.settings": "alps.settings.run",
    "alps.infrastructure": "alps.settings.infrastructure",
    "alps.families": "alps.settings.interfaces",
    "alps.methods.whole": "alps.methods.dense",
    "alps.methods.given": "alps.methods.head_file",
    "alps.data.table": "alps.data.sources.table",
    "alps.data.jsonl": "alps.data.sources.jsonl",
    "alps.data.mini": "alps.data.sources.mini",
    "alps.evals.harness": "alps.evals.harness.benchmark",
    "alps.evals.harness_documents": "alps.evals.harness.documents",
    "alps.evals.ifeval": "alps.evals.harness.ifeval",
    "alps.evals.mmlu": "alps.evals.harness.mmlu",
    "alps.evals.evalplus_benchmark": "alps.evals.evalplus.benchmark",
    "alps.evals.mini_tasks": "alps.evals.mini.benchmark",
    "alps.evals.evalplus_mini": "alps.evals.mini.code_benchmark",
}
"""Module in an old `_target_` -> the module with its classes now."""

MAX_SEED = 2**32 - 1
"""Largest seed of numpy's generators."""


class SettingsError(ValueError):
    """Invalid settings; each problem is one sentence."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(dict.fromkeys(problems))
        super().__init__("; ".join(self.problems))


def to_dict(value: Any) -> Any:
    """Nested dataclasses as mappings with their class, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        plain = {f.name: to_dict(getattr(value, f.name)) for f in fields(value)}
        return {TARGET: f"{cls.__module__}.{cls.__qualname__}", **plain}
    if isinstance(value, Mapping):
        return {k: to_dict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(v) for v in value]
    return value


def from_dict(
    plain: Mapping[str, Any], cls: type | None = None, where: str = "", check: bool = True
) -> Any:
    """Builds a dataclass from its serialized form.

    Args:
        plain: Field values; `_target_` names the class if `cls` is abstract or None.
        cls: The expected class.
        where: Dotted name of these settings, for messages.
        check: Whether to collect the `problems()` of each part; types are always checked.

    Raises:
        SettingsError: All problems together.
    """
    problems: list[str] = []
    value = _component(plain, cls, where, problems)
    if check and not problems:
        problems += _problems_of_parts(value)
    if problems:
        raise SettingsError(problems)
    return value


def target_class(path: str, interface: type | None = None) -> type:
    """Imports the dataclass of a `_target_`.

    Raises:
        ValueError: If it does not exist or does not implement the interface.
    """
    module, _, name = current_target(str(path)).rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except Exception as error:  # importing a module runs it
        raise ValueError(f"{TARGET}: {path} cannot be imported ({error})") from None
    if not (isinstance(cls, type) and is_dataclass(cls) and issubclass(cls, interface or object)):
        wanted = interface.__name__ if interface else "dataclass"
        raise ValueError(f"{TARGET}: {path} is not a {wanted}")
    return cls


def current_target(path: str) -> str:
    """The `_target_` of this version for one of an earlier version."""
    module, _, name = path.rpartition(".")
    return f"{MOVED.get(module, module)}.{name}"


def with_current_targets(plain: Any) -> Any:
    """Serialized settings with the `_target_`s of this version."""
    if isinstance(plain, Mapping):
        return {
            k: current_target(v) if k == TARGET and isinstance(v, str) else with_current_targets(v)
            for k, v in plain.items()
        }
    if isinstance(plain, list):
        return [with_current_targets(v) for v in plain]
    return plain


def value_problems(value: Any, hint: Any, where: str) -> list[str]:
    """Sentences about a value that does not have the annotated type.

    Args:
        value: Value from a config.
        hint: The annotation.
        where: Name of the setting, for messages.
    """
    problems: list[str] = []
    _value(value, hint, where, problems)
    return problems


def argument_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Option of a function -> its type; the first argument is no option.

    An option without annotation has the type of its default.
    """
    hints = typing.get_type_hints(function)
    options = list(signature(function).parameters.values())[1:]
    untyped = {p.name: Any if p.default in (None, p.empty) else type(p.default) for p in options}
    return {name: hints.get(name, otherwise) for name, otherwise in untyped.items()}


def seed_problems(seed: int, where: str) -> Iterator[str]:
    """A sentence about a seed out of range."""
    if not 0 <= seed <= MAX_SEED:
        yield f"{where} must lie in [0, {MAX_SEED}], got {seed}"


def name_problems(name: str, where: str) -> Iterator[str]:
    """A sentence about a name that cannot be part of a folder name."""
    if not re.fullmatch(r"[\w.+-]{1,100}", name) or name.startswith("."):
        yield f"{where} must be up to 100 letters, digits and ._+-, got {name!r}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest known word, else the list of known words."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else f" (one of: {', '.join(known)})"


def _component(plain: Any, cls: type | None, where: str, problems: list[str]) -> Any:
    if not isinstance(plain, Mapping):
        problems.append(f"{where} must be a group of settings, got {plain!r}")
        return None
    try:
        cls = target_class(plain[TARGET], cls) if TARGET in plain else cls
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None
    if cls is None or isabstract(cls):
        problems.append(f"{where or 'the settings'}: {TARGET} is missing")
        return None
    assert is_dataclass(cls), where
    hints = type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    dot = f"{where}." if where else ""
    before = len(problems)
    values = {}
    for name, given in plain.items():
        if name == TARGET:
            continue
        if name not in known:
            problems.append(f"{dot}{name} is not a setting{did_you_mean(name, known)}")
            continue
        values[name] = _value(given, hints[name], f"{dot}{name}", problems)
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            problems.append(f"{dot}{name} is missing")
    if len(problems) > before:
        return None
    return cls(**values)


@cache
def type_hints(cls: type) -> dict[str, Any]:
    """Types of a class's fields, resolved once: it takes a millisecond."""
    return typing.get_type_hints(cls)


def _problems_of_parts(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [p for part in value for p in _problems_of_parts(part)]
    if not is_dataclass(value):
        return []
    inner = [p for f in fields(value) for p in _problems_of_parts(getattr(value, f.name))]
    own = getattr(value, "problems", None)
    try:
        return [*inner, *(own() if own else ())]
    except (OSError, ValueError) as error:  # a path that no file can have, for example
        return [*inner, str(error)]


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_LARGEST = {int: 2**63 - 1, float: sys.float_info.max}
_FINITE_WORDS = {int: "a whole number of at most 64 bits", float: "a finite number"}


def _value(given: Any, hint: Any, where: str, problems: list[str]) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return given
    if origin in (Union, types.UnionType):
        if given is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        trials = [[] for _ in options]
        for option, trial in zip(options, trials, strict=True):
            value = _value(given, option, where, trial)
            if not trial:
                return value
        problems.extend(trials[0])
        return None
    if origin is Literal:
        if type(given) is int and str(given) in args:  # optim.precision=32
            return str(given)
        if given not in args:
            problems.append(
                f"{where}={given} is not possible{did_you_mean(str(given), map(str, args))}"
            )
        return given
    if origin is tuple:
        if isinstance(given, list | tuple):
            each = args[0] if args[-1] is Ellipsis else None
            if each is None and len(given) != len(args):
                problems.append(f"{where} must have {len(args)} values, got {len(given)}")
                return None
            hints = [each] * len(given) if each is not None else args
            pairs = enumerate(zip(given, hints, strict=True))
            return tuple(_value(v, h, f"{where}[{i}]", problems) for i, (v, h) in pairs)
        problems.append(f"{where} must be a list, got {given!r}")
        return None
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(given, Mapping):
            problems.append(f"{where} must be a group of settings, got {given!r}")
            return None
        return {k: _value(v, args[1], f"{where}.{k}", problems) for k, v in given.items()}
    if is_dataclass(hint):
        return _component(given, hint, where, problems)  # pyright: ignore[reportArgumentType]
    accepted = int | float if hint is float else hint
    if not isinstance(given, accepted) or (isinstance(given, bool) and hint is not bool):
        problems.append(f"{where} must be {_WORDS.get(hint, hint.__name__)}, got {given!r}")
    elif hint in _LARGEST and not abs(given) <= _LARGEST[hint]:  # nan is not, either
        problems.append(f"{where} must be {_FINITE_WORDS[hint]}, got {given}")
    elif hint is float:
        return float(given)
    return given
