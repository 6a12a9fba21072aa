"""`alps heads show` and `alps heads compare`: head sets that were written before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from alps.cli.arguments import split_settings
from alps.cli.command import CommandGroup, Sections, SettingsCommand

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class ShowSettings:
    """Settings of `alps heads show`.

    Attributes:
        png: Path of the picture; null: beside FILE, with the ending .png.
        top: Number of heads listed.
    """

    png: str | None = None
    top: str = "10"


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Settings of `alps heads compare`.

    Attributes:
        to: Folder to write; null: reports/overlap-<12 hex> in output_dir.
        output_dir: Folder of the outputs.
    """

    to: str | None = None
    output_dir: str = "outputs"


def show(arguments: Sequence[str]) -> None:
    """Prints a heads.json as heat map and list, and draws it."""
    with _exit_on_error():
        files, settings = _parse(arguments, ShowSettings)
        if len(files) != 1:
            raise ValueError(f"alps heads show takes one heads.json, got {len(files)}")
        if not settings.top.isdecimal():
            raise ValueError(f"top must be a whole number, got {settings.top}")
        from alps.heads.head_set import HeadSet
        from alps.report.heads.heat_map import draw_heat_map
        from alps.report.heads.summary import print_heads

        head_set = HeadSet.read(files[0])
        picture = files[0].with_suffix(".png") if settings.png is None else Path(settings.png)
        draw_heat_map(head_set, picture)
        print_heads(head_set, int(settings.top))
        print(f"picture: {picture}")


def compare(arguments: Sequence[str]) -> None:
    """Prints, draws and writes how far two or more head sets overlap."""
    with _exit_on_error():
        paths, settings = _parse(arguments, CompareSettings)
        from alps.base.atomic import write_json
        from alps.base.hashing import digest
        from alps.heads.head_set import HeadSet
        from alps.report.heads import overlap
        from alps.report.heads.overlap_view import draw_overlap, print_comparison

        names = overlap.labels(paths)
        comparison = overlap.compare(list(zip(names, map(HeadSet.read, paths), strict=True)))
        result = overlap.to_json(comparison)
        default = Path(settings.output_dir) / "reports" / f"overlap-{digest(result)[:12]}"
        folder = default if settings.to is None else Path(settings.to)
        draw_overlap(comparison, folder / "overlap.png")
        write_json(folder / "overlap.json", result)
        print_comparison(comparison)
        print(f"files: {folder}")


def _parse(arguments: Sequence[str], cls: type[Settings]) -> tuple[list[Path], Settings]:
    """Files and settings among the arguments.

    Raises:
        ValueError: If there is no such setting.
    """
    from alps.base.serialization import did_you_mean

    values, files = split_settings(arguments)
    known = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise ValueError(f"there is no setting {name}{did_you_mean(name, known)}")
    return list(map(Path, files)), cls(**values)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    from alps.config.errors import exit_with_errors

    try:
        yield
    except OSError as error:
        exit_with_errors([f"{error.filename} cannot be read ({error.strerror})"])
    except ValueError as error:
        exit_with_errors([str(error)])


def sections_of(cls: type) -> Sections:
    """Settings of a command."""
    from alps.cli.setting_docs import dataclass_settings

    return {"Settings": dataclass_settings(cls)}


show_command = SettingsCommand(
    show,
    lambda: sections_of(ShowSettings),
    (
        "alps heads show outputs/runs/KEY/heads.json",
        "alps heads show heads.json top=20",
        "alps heads show heads.json png=map.png",
    ),
    metavar="FILE [NAME=VALUE]...",
)
compare_command = SettingsCommand(
    compare,
    lambda: sections_of(CompareSettings),
    (
        "alps heads compare heads-pad.json heads-kl.json",
        "alps heads compare outputs/runs/*/heads.json to=overlap",
        "alps heads compare a.json b.json output_dir=elsewhere",
    ),
    metavar="FILE FILE... [NAME=VALUE]...",
)
command = CommandGroup(
    "heads",
    {"show": "alps.cli.heads:show_command", "compare": "alps.cli.heads:compare_command"},
    lambda name: "alps heads needs to know what to do: show FILE, or compare FILE FILE",
    """Shows and compares head sets.

    A head set is a heads.json, written by runs and by alps localize.

    \b
    Examples:
      alps heads show outputs/runs/KEY/heads.json
      alps heads compare heads-pad.json heads-kl.json
      alps heads compare --help
    """,
)
