"""Scores of one head: pure functions of its base and its task matrix, one file each.

A metric is a module here with a function `score(pair, **options) -> float` in which larger means
*more changed*; its name in `method.metric` is the module's name, its options are the keyword
arguments of the function.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, get_args, get_origin

from alps.base.serialization import argument_types, did_you_mean, value_problems

Score = Callable[..., float]


def names() -> list[str]:
    """All metrics that exist."""
    return sorted(m.name for m in iter_modules(__path__))


def load(metric: str) -> Score:
    """The score function of a metric.

    Raises:
        ValueError: If there is no such metric.
    """
    if metric not in names():
        raise ValueError(f"there is no metric {metric}{did_you_mean(metric, names())}")
    return import_module(f"{__name__}.{metric}").score


def options_of(metric: str) -> dict[str, Any]:
    """Options of a metric with their defaults."""
    parameters = list(inspect.signature(load(metric)).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def option_problems(metric: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about a metric or options that do not exist or cannot be."""
    if metric not in names():
        yield f"there is no metric {metric}{did_you_mean(metric, names())}"
        return
    types = argument_types(load(metric))
    for name, value in options.items():
        if name not in types:
            yield f"metric {metric} has no option {name}{did_you_mean(name, types)}"
        elif get_origin(types[name]) is Literal:
            if value not in (choices := get_args(types[name])):
                yield f"there is no {name}={value}{did_you_mean(str(value), map(str, choices))}"
        elif name == "tau" and not _is_temperature(value):
            yield f"tau must be a number above 0, got {value}"
        else:
            yield from value_problems(value, types[name], name)


def _is_temperature(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < float("inf")


def differing(options: Mapping[str, Any], metrics: Iterable[str]) -> dict[str, Any]:
    """Those options that are not the default of a metric which has them; 2 is told as 2.0."""
    defaults = [options_of(metric) for metric in metrics]
    return {
        k: float(v) if isinstance(v, int) else v
        for k, v in options.items()
        if any(k in d and d[k] != v for d in defaults)
    }
