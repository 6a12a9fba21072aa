from dataclasses import dataclass, field
from typing import Literal

import pytest

from alps.cli.setting_docs import (
    as_typed,
    attribute_docs,
    dataclass_settings,
    literal_choices,
    part_settings,
    read_yaml,
    root_settings,
)
from alps.config.build import OWN, PARTS, compose_config
from alps.localization.request import Request


@dataclass(kw_only=True)
class Parent:
    """A class.

    Attributes:
        size: One: two
            and three.
    """

    size: int


@dataclass(kw_only=True)
class Child(Parent):
    """Another.

    Attributes:
        from_: Where.

    More text.
    """

    from_: Literal["a", "b"] | None = None
    names: list[str] = field(default_factory=list)


def test_fields_have_defaults_choices_and_descriptions_of_all_classes():
    assert attribute_docs(Child) == {"size": "One: two and three.", "from_": "Where."}
    size, place, names = dataclass_settings(Child, prefix="x.")
    assert (size.name, size.default, size.choices) == ("x.size", "...", ())
    assert (place.name, place.default, place.choices) == ("x.from", "null", ("a", "b", "null"))
    assert (names.default, names.text) == ("[]", "")
    assert dataclass_settings(Child, {"size": 3}, skip=("from_", "names"))[0].default == "3"


@pytest.mark.parametrize(
    ("hint", "choices"),
    [
        (bool, ("true", "false")),
        (Literal["a", 1], ("a", "1")),
        (int | None, ()),
        (int | Literal["auto"], ()),
        (tuple[Literal["a"], ...], ()),
        (str, ()),
    ],
)
def test_choices_of_a_type(hint, choices):
    assert literal_choices(hint) == choices


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), ((0.9, 1), "[0.9, 1]"), ("a", "a"), ("???", "..."), (3, "3")],
)
def test_values_stand_as_they_are_typed(value, text):
    assert as_typed(value) == text


def test_the_yaml_of_localize_has_every_setting():
    names = [setting.name for setting in root_settings("localize", Request)]
    assert names[:2] == ["base", "task"] and {"tau", "ground", "output_dir"} <= set(names)


def test_the_comments_of_the_yaml_name_the_choices_of_the_annotations():
    comments = read_yaml("train")[1]
    for name, hint in OWN.items():
        if hint is not bool and (choices := literal_choices(hint)):
            assert comments[name].rpartition(": ")[2] == " | ".join(choices)


@pytest.mark.parametrize("part", [*PARTS, "task_model"])
def test_all_settings_of_a_part_are_shown(part):
    ((_, settings),) = part_settings(part).items()
    hidden = {"name", "_target_", "benchmarks", "report"}
    assert {s.name.removeprefix(f"{part}.") for s in settings} >= {
        str(name) for name in compose_config([])[part]
    } - hidden
