import re
import tomllib
from pathlib import Path

import alps

SOURCES = Path(alps.__file__).parents[1]
PRIVATE = r"hydra\._internal|\b_(get|set)_parent\b|\._convert_value|\._get_value_element_as_str"


def test_private_names_stand_in_one_file():
    users = {p.name for p in SOURCES.rglob("*.py") if re.search(PRIVATE, p.read_text())}
    assert users == {"hydra_internals.py"}


def test_the_versions_are_pinned_whose_private_names_these_are():
    project = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["project"]
    assert {"hydra-core>=1.3.2,<1.4", "omegaconf>=2.3,<2.4"} <= set(project["dependencies"])
