"""The points of a grid without composing each of them, which takes Hydra a tenth of a second.

What a choice puts into a config does not depend on the others, as a rule. So it is read once, and a
point is the defaults with its choices put in. Where the rule does not hold (two choices touch the
same setting, an experiment is more than a grid, an override adds or deletes), Hydra composes the
point. A test holds that both give the same runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import OmegaConf

from alps.config.compose import conf_dir, expand, paths_told, plain_config

Point = tuple[str, dict[str, Any]]
"""The overrides that make a point one, and its plain config."""


class NotPlain(Exception):
    """Hydra must compose this."""


@dataclass
class Choices:
    """What choices put into a config; kept from one grid to the next.

    Attributes:
        defaults: The config without any choice, interpolations unresolved.
        changes: Override -> top-level setting -> its content under this choice.
        overrides: Text -> parsed.
        parts: Parts of runs by their plain settings, for who builds runs of the points.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)

    def points(self, overrides: Sequence[str], loader: ConfigLoader) -> Iterator[Point]:
        """The points of a grid.

        Args:
            overrides: As on the command line of a sweep.
            loader: Hydra's own, in whose context this is called.
        """
        told = paths_told(overrides)
        try:
            axes = _axes(told)
        except NotPlain:
            config = loader.load_configuration("train", told, run_mode=RunMode.MULTIRUN)
            yield from ((name, plain_config(point)) for name, point in expand(config, loader))
            return
        config = None
        parser = OverridesParser.create(config_loader=loader)
        parsed = parser.parse_overrides([*(f"{k}={v}" for k, v in axes.items()), *told])
        for point in BasicSweeper.split_arguments(parsed, None)[0]:
            try:
                plain = self._put_together(point)
            except NotPlain:
                config = config or loader.load_configuration(
                    "train", told, run_mode=RunMode.MULTIRUN
                )
                plain = plain_config(loader.load_sweep_config(config, list(point)))
            yield ", ".join(point), plain

    def _put_together(self, point: Sequence[str]) -> dict[str, Any]:
        """The defaults with these overrides put in: first choices, then values, as Hydra does."""
        if not self.defaults:
            self.defaults = _composed([])
        tree, owners, values = dict(self.defaults), dict[str, str](), list[Override]()
        for text in point:
            override = self._parsed(text)
            group = override.key_or_group
            if group == "experiment":
                continue  # a grid and nothing else, see `_axes`
            if not (conf_dir() / group).is_dir():
                values.append(override)
                continue
            for name, content in self._changes(text, group, str(override.value())).items():
                if owners.setdefault(name, group) != group:
                    raise NotPlain
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
            unusual = override.is_add() or override.is_delete() or override.package is not None
            if unusual or override.key_or_group.startswith("hydra"):
                raise NotPlain
            self.overrides[text] = override
        return self.overrides[text]

    def _changes(self, text: str, group: str, choice: str) -> dict[str, Any]:
        if text not in self.changes:
            try:
                self.changes[text] = {group: _content(group, choice)}
            except NotPlain:
                composed, before = _composed([text]), self.defaults
                names = composed.keys() | before.keys()
                differing = {n for n in names if composed.get(n) != before.get(n)}
                self.changes[text] = {n: composed.get(n) for n in sorted({group, *differing})}
        return self.changes[text]


def _axes(overrides: Sequence[str]) -> Mapping[str, Any]:
    """The axes of the experiment among the overrides, read from its file.

    Raises:
        NotPlain: If there is more in the file, or an override changes what is in it.
    """
    given = dict(o.split("=", 1) for o in overrides if "=" in o)
    if any(o.startswith(("grid.", "scale.", "hydra")) for o in overrides):
        raise NotPlain
    if "experiment" not in given:
        return {}
    experiment = _content("experiment", given["experiment"])
    if set(experiment) != {"grid", "hydra"} or set(experiment["hydra"]) != {"mode", "sweeper"}:
        raise NotPlain
    scale = _content("scale", given.get("scale", "paper"))
    tree: Any = OmegaConf.to_container(
        OmegaConf.create({**experiment, "scale": scale}), resolve=True
    )
    return tree["hydra"]["sweeper"]["params"]


def _content(group: str, choice: str) -> dict[str, Any]:
    """What is in the file of a choice.

    Raises:
        NotPlain: If that is not what it puts into a config under the group's name.
    """
    path: Path = conf_dir() / group / f"{choice}.yaml"
    if not path.is_file():
        raise NotPlain
    elsewhere = "# @package" in path.read_text() and group != "experiment"
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if elsewhere or not isinstance(content, dict) or "defaults" in content:
        raise NotPlain
    return content


def _composed(overrides: list[str]) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(compose("train", overrides), resolve=False)
    return config


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets a value that is there already; parts that other points share are copied before."""
    if path[0] not in tree:
        raise NotPlain
    if len(path) == 1:
        tree[path[0]] = value
        return
    inner = tree[path[0]]
    if not isinstance(inner, dict):
        raise NotPlain
    tree[path[0]] = copied = dict(inner)
    _put(copied, path[1:], value)
