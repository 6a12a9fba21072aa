"""Labels and colors of methods in reports, from the `report` blocks of `conf/method`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from alps.base.serialization import SettingsError, from_dict
from alps.config.conf_dir import conf_dir
from alps.config.errors import error_messages
from alps.report.style import MethodStyle

REPORT = "report"
"""Block in the YAML of a method; no setting of the method, so no part of a run or its key."""


def without_report(method: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a method without its `report` block."""
    return {name: value for name, value in method.items() if name != REPORT}


def method_styles() -> dict[str, MethodStyle]:
    """Name of a method -> its style, for each file in `conf/method` with a `report` block.

    Raises:
        SettingsError: If a file cannot be read or a block is not valid.
    """
    found: dict[str, MethodStyle] = {}
    for path in sorted((conf_dir() / "method").glob("*.yaml")):
        try:
            method = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(error_messages(error)) from None
        if isinstance(method, Mapping) and REPORT in method:
            name = str(method.get("name", path.stem))
            found[name] = from_dict(method[REPORT], MethodStyle, f"method={path.stem}: {REPORT}")
    return found
