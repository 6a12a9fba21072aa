"""`alps runs`: trained and unfinished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input


@dataclass(frozen=True, kw_only=True)
class RunsSettings:
    """Settings of `alps runs`.

    Attributes:
        output_dir: Folder of the outputs.
    """

    output_dir: str = "outputs"


def runs(arguments: Sequence[str]) -> None:
    """Lists runs with settings and state.

    Each FILTER is a word that a run's line contains, or name=value for one of its columns.
    """
    from alps.report.runs.listing import print_runs

    values, filters = split_settings(arguments, ("output_dir",))
    with exit_on_bad_input():
        print_runs(Path(RunsSettings(**values).output_dir), filters)


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings

    return {"Settings": dataclass_settings(RunsSettings)}


command = SettingsCommand(
    runs,
    sections,
    (
        "alps runs",
        "alps runs state=failed          # with the reasons",
        "alps runs method=alps seed=0",
    ),
    metavar="[FILTER]...",
)
