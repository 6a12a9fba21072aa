"""Settings of `alps localize`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alps.base.atomic import can_hold_files
from alps.base.serialization import did_you_mean
from alps.settings.infrastructure import Logger

AUTHORS_METRICS = ("pad", "kl", "cosine")
"""Metrics of the authors' script."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Two checkpoints and the scores to compute.

    Attributes:
        base: Folder, safetensors file, hub id, name of a model choice, or key of a run.
        task: Likewise.
        metric: Names of modules in `alps.scores`; the first one selects the heads of `heads.json`.
        ratio: Fraction of all heads to select.
        matrix: `product` or `concat`.
        bias: `ignore` or `include`.
        compat: `authors` or None.
        output_dir: Parent of `scores/<key>`.
        logger: `wandb` makes a run of it; the other loggers have nothing to show.
        options: Options of the metrics.
    """

    base: str
    task: str
    metric: tuple[str, ...] = ("pad",)
    ratio: float = 0.1
    matrix: Literal["product", "concat"] = "product"
    bias: Literal["ignore", "include"] = "ignore"
    compat: Literal["authors"] | None = None
    output_dir: str = "outputs"
    logger: Logger = field(default=Logger(), metadata={"identity": False})
    options: Mapping[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Error messages for invalid settings."""
        from alps.scores import default_options, metric_names, option_problems

        if not can_hold_files(Path(self.output_dir)):
            yield f"output_dir={self.output_dir} cannot be written to: name another folder"
        if not 0 < self.ratio <= 1:
            yield f"ratio must lie in (0, 1], got {self.ratio}"
        if not self.metric:
            yield f"metric names no metric (one or more of: {', '.join(metric_names())})"
        known = [m for m in self.metric if m in metric_names()]
        yield from (f"there is no metric {m}{did_you_mean(m, metric_names())}"
                    for m in self.metric if m not in known)  # fmt: skip
        every_option = {o for m in metric_names() for o in default_options(m)}
        for name in self.options:
            if name not in every_option:
                yield f"no metric has an option {name}{did_you_mean(name, every_option)}"
        for metric in metric_names():
            own = {k: v for k, v in self.options.items() if k in default_options(metric)}
            yield from option_problems(metric, own)
        if self.compat == "authors":
            yield from authors_problems(known, self.options, self.bias)


def authors_problems(
    metrics: Collection[str], options: Mapping[str, Any], bias: str
) -> Iterator[str]:
    """Error messages for settings that the authors' script does not have.

    Args:
        metrics: Requested metrics, all known.
        options: Options of these metrics, all known.
        bias: As in `Request`.
    """
    from alps.scores import non_default_options

    for metric in metrics:
        if metric not in AUTHORS_METRICS:
            yield f"compat=authors has no metric {metric} (one of: {', '.join(AUTHORS_METRICS)})"
    other = non_default_options(options, metrics)
    if bias != "ignore":
        other["bias"] = bias
    for name, value in other.items():
        yield f"compat=authors cannot have {name}={value}: leave {name} out, as the script does"
