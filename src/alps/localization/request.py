"""What `alps localize` is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alps.base.atomic import can_hold_files
from alps.base.serialization import did_you_mean

AUTHORS_METRICS = ("pad", "kl", "cosine")
"""What `compat=authors` can compute: the metrics of the authors' script."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Two checkpoints, and what to compute of them.

    Attributes:
        base: Folder, safetensors file, hub id, name of a model choice, or key of a run.
        task: Likewise.
        metric: Names of modules in `alps.scores`; the first one decides `heads.json`.
        ratio: Share of all heads to choose.
        matrix: `product` or `concat`.
        bias: `ignore` or `include`.
        compat: `authors` or None.
        output_dir: Scores go to `scores/<key>` below it.
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
    options: Mapping[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        from alps.scores import names, option_problems, options_of

        if not can_hold_files(Path(self.output_dir)):
            yield f"output_dir={self.output_dir} cannot be written to: name another folder"
        if not 0 < self.ratio <= 1:
            yield f"ratio must lie in (0, 1], got {self.ratio}"
        if not self.metric:
            yield f"metric names no metric (one or more of: {', '.join(names())})"
        known = [m for m in self.metric if m in names()]
        yield from (f"there is no metric {m}{did_you_mean(m, names())}"
                    for m in self.metric if m not in known)  # fmt: skip
        everybody = {o for m in names() for o in options_of(m)}
        for name in self.options:
            if name not in everybody:
                yield f"no metric has an option {name}{did_you_mean(name, everybody)}"
        for metric in names():
            own = {k: v for k, v in self.options.items() if k in options_of(metric)}
            yield from option_problems(metric, own)
        if self.compat == "authors":
            yield from authors_problems(known, self.options, self.bias)


def authors_problems(
    metrics: Collection[str], options: Mapping[str, Any], bias: str
) -> Iterator[str]:
    """Sentences about what the authors' script does not do; its temperature and the like are fixed.

    Args:
        metrics: Metrics asked for, all known.
        options: Options of these metrics, all known.
        bias: As in `Request`.
    """
    from alps.scores import differing

    for metric in metrics:
        if metric not in AUTHORS_METRICS:
            yield f"compat=authors has no metric {metric} (one of: {', '.join(AUTHORS_METRICS)})"
    other = differing(options, metrics)
    if bias != "ignore":
        other["bias"] = bias
    for name, value in other.items():
        yield f"compat=authors cannot have {name}={value}: leave {name} out, as the script does"
