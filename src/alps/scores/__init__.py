"""Metrics: pure functions (base head, task head) -> score, one module each.

Each module defines `score(pair, **options) -> float`, where larger means *more changed*. The name
of the module is the name of the metric, and its keyword arguments are the metric's options.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, get_args, get_origin

from alps.base.serialization import argument_types, did_you_mean, value_problems

Score = Callable[..., float]


def metric_names() -> list[str]:
    """Names of all metrics."""
    return sorted(m.name for m in iter_modules(__path__))


def load_score(metric: str) -> Score:
    """The score function of a metric.

    Raises:
        ValueError: If there is no such metric.
    """
    if metric not in metric_names():
        raise ValueError(f"there is no metric {metric}{did_you_mean(metric, metric_names())}")
    return import_module(f"{__name__}.{metric}").score


def default_options(metric: str) -> dict[str, Any]:
    """Options of a metric with their defaults."""
    parameters = list(inspect.signature(load_score(metric)).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def option_problems(metric: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Error messages for an unknown metric, unknown options or invalid values."""
    if metric not in metric_names():
        yield f"there is no metric {metric}{did_you_mean(metric, metric_names())}"
        return
    types = argument_types(load_score(metric))
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


def non_default_options(options: Mapping[str, Any], metrics: Iterable[str]) -> dict[str, Any]:
    """Options that differ from the default of a metric that has them; integers become floats."""
    defaults = [default_options(metric) for metric in metrics]
    return {
        k: float(v) if isinstance(v, int) else v
        for k, v in options.items()
        if any(k in d and d[k] != v for d in defaults)
    }
