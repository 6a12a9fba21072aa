"""Points of a grid without composing each of them, which takes Hydra a tenth of a second.

What a choice puts into a config rarely depends on the other choices. So it is read once, and a
point is the defaults with its choices put in. Hydra composes the points where this does not hold:
two choices change the same setting, an experiment is more than a grid, an override adds or deletes.
A test checks that both ways give the same runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import OmegaConf

from alps.config.compose import composed, conf_dir, config_to_dict, expand, expand_shorthand
from alps.config.hydra_internals import sweep_points

Point = tuple[str, dict[str, Any]]
"""The overrides that distinguish a point, and its settings."""


class NeedsHydra(Exception):
    """Only Hydra can compose this point."""


@dataclass
class GridComposer:
    """Composes the points of grids; caches what choices put into a config across grids.

    Attributes:
        defaults: The config without any choice, interpolations unresolved.
        changes: Overrides of one group -> top-level setting -> its content under these choices.
        overrides: Text -> parsed override.
        parts: Parts of runs by their settings, for callers that build runs of the points.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    changes: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)

    def points(self, overrides: Sequence[str], loader: ConfigLoader) -> Iterator[Point]:
        """The points of a grid.

        Args:
            overrides: As on the command line of a sweep.
            loader: Hydra's loader, in whose context this is called.
        """
        expanded = expand_shorthand(overrides)
        try:
            axes = _axes(expanded)
        except NeedsHydra:
            config = loader.load_configuration("train", expanded, run_mode=RunMode.MULTIRUN)
            yield from ((name, config_to_dict(point)) for name, point in expand(config, loader))
            return
        config = None
        for point in sweep_points([*(f"{k}={v}" for k, v in axes.items()), *expanded], loader):
            try:
                settings = self._compose(point)
            except NeedsHydra:
                config = config or loader.load_configuration(
                    "train", expanded, run_mode=RunMode.MULTIRUN
                )
                settings = config_to_dict(loader.load_sweep_config(config, point))
            yield ", ".join(point), settings

    def _compose(self, point: Sequence[str]) -> dict[str, Any]:
        """The defaults with these overrides applied: first choices, then values, as Hydra does."""
        if not self.defaults:
            self.defaults = _composed([])
        tree, owners, values = dict(self.defaults), dict[str, str](), list[Override]()
        choices: dict[str, list[str]] = {}
        for text in point:
            override = self._parsed(text)
            group = override.key_or_group
            if group == "experiment":
                continue  # a grid and nothing else, see `_axes`
            if _is_group(override):
                choices.setdefault(group.split("/")[0], []).append(text)
            else:
                values.append(override)
        for group, texts in choices.items():
            for name, content in self._changes(group, tuple(texts)).items():
                if owners.setdefault(name, group) != group:
                    raise NeedsHydra
                tree[name] = content
        for override in values:
            _put(tree, override.key_or_group.split("."), override.value())
        if "${" in str(tree):
            tree = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
            assert isinstance(tree, dict)
        return {str(k): v for k, v in tree.items()}

    def _parsed(self, text: str) -> Override:
        if text not in self.overrides:
            override = OverridesParser.create().parse_override(text)
            added = override.is_add() or override.package is not None
            unusual = override.is_delete() or (added and not _is_group(override))
            if unusual or override.key_or_group.startswith("hydra"):
                raise NeedsHydra
            self.overrides[text] = override
        return self.overrides[text]

    def _changes(self, group: str, texts: tuple[str, ...]) -> dict[str, Any]:
        if texts not in self.changes:
            try:
                name, _, choice = texts[0].partition("=")
                if texts[1:] or name != group:  # `+evals/benchmark@evals.benchmarks.x=x`
                    raise NeedsHydra
                self.changes[texts] = {group: _content(group, choice)}
            except NeedsHydra:
                composed, before = _composed([*texts]), self.defaults
                names = composed.keys() | before.keys()
                differing = {n for n in names if composed.get(n) != before.get(n)}
                self.changes[texts] = {n: composed.get(n) for n in sorted({group, *differing})}
        return self.changes[texts]


def _is_group(override: Override) -> bool:
    return (conf_dir() / override.key_or_group).is_dir()


def _axes(overrides: Sequence[str]) -> Mapping[str, Any]:
    """The axes of the experiment among the overrides, read from its file.

    Raises:
        NeedsHydra: If the file has more than axes, or an override changes them.
    """
    values = dict(o.split("=", 1) for o in overrides if "=" in o)
    if any(o.startswith(("grid.", "scale.", "hydra")) for o in overrides):
        raise NeedsHydra
    if "experiment" not in values:
        return {}
    experiment = _content("experiment", values["experiment"])
    if set(experiment) != {"grid", "hydra"} or set(experiment["hydra"]) != {"mode", "sweeper"}:
        raise NeedsHydra
    scale = _content("scale", values.get("scale", "paper"))
    tree: Any = OmegaConf.to_container(
        OmegaConf.create({**experiment, "scale": scale}), resolve=True
    )
    return tree["hydra"]["sweeper"]["params"]


def _content(group: str, choice: str) -> dict[str, Any]:
    """Content of a choice's file.

    Raises:
        NeedsHydra: If the choice changes more of a config than the node of its group.
    """
    path: Path = conf_dir() / group / f"{choice}.yaml"
    if not path.is_file():
        raise NeedsHydra
    elsewhere = "# @package" in path.read_text() and group != "experiment"
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if elsewhere or not isinstance(content, dict) or "defaults" in content:
        raise NeedsHydra
    return content


def _composed(overrides: list[str]) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(composed("train", overrides), resolve=False)
    return config


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Replaces an existing value; copies the nodes above it, which other points share."""
    if path[0] not in tree:
        raise NeedsHydra
    if len(path) == 1:
        tree[path[0]] = value
        return
    inner = tree[path[0]]
    if not isinstance(inner, dict):
        raise NeedsHydra
    tree[path[0]] = copied = dict(inner)
    _put(copied, path[1:], value)
