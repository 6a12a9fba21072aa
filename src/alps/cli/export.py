"""`alps export`: a trained run as a folder for other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input, exit_on_failure, failure_message


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of `alps export`.

    Attributes:
        run: Any unique part of a run's key.
        to: Folder to write; it must not exist.
        format: `hf`: a plain model; `rows`: the trained rows; `lora`: a PEFT adapter.
        output_dir: Folder of the outputs.
    """

    run: str
    to: str
    format: str = "hf"
    output_dir: str = "outputs"


def export(arguments: Sequence[str]) -> None:
    """Writes a trained run for transformers, vLLM or PEFT."""
    from alps.base.atomic import can_hold_files
    from alps.config.errors import exit_with_errors
    from alps.models.export import export_run, rank_warnings
    from alps.runs.folder import find_run

    with exit_on_bad_input():
        settings = _parse(arguments)
        to = Path(settings.to)
        folder = find_run(Path(settings.output_dir), settings.run)
        run = folder.read_run()
        if reason := folder.missing_weights_reason():
            raise ValueError(reason)
        if to.exists():
            raise ValueError(f"{to} exists already; nothing is overwritten: choose another folder")
        if not can_hold_files(to):
            raise ValueError(f"to={to} cannot be written to: name another folder")
    key = folder.path.name
    with exit_on_failure(key):
        from alps.training.restore import restore

        try:
            ranks = export_run(run, settings.format, to, restore, folder)
        except ValueError as error:
            exit_with_errors([f"{key}: {failure_message(error)}"])
    largest = f"; largest rank {max(ranks.values())}" if ranks else ""
    print(f"{key} is in {to}{largest}")
    for warning in rank_warnings(ranks):
        print(f"warning: {warning}", file=sys.stderr)


def _parse(arguments: Sequence[str]) -> ExportSettings:
    """Settings of the export.

    Raises:
        SettingsError: All problems together.
    """
    from alps.base.serialization import SettingsError, did_you_mean
    from alps.models.export import FORMATS

    known = [field.name for field in fields(ExportSettings)]
    values, unknown = split_settings(arguments, known)
    problems = [
        f"'{a}' is not understood{did_you_mean(a.partition('=')[0], known)}" for a in unknown
    ]
    problems += [f"{name}=... is missing" for name in ("run", "to") if not values.get(name)]
    if (form := values.get("format", "hf")) not in FORMATS:
        problems.append(f"format={form} is not possible{did_you_mean(form, FORMATS)}")
    if problems:
        raise SettingsError(problems)
    return ExportSettings(**values)


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings
    from alps.models.export import FORMATS

    return {"Settings": dataclass_settings(ExportSettings, choices={"format": FORMATS})}


command = SettingsCommand(
    export,
    sections,
    (
        "alps export run=KEY to=model                # transformers loads it",
        "alps export run=KEY format=lora to=adapter",
        "alps export run=KEY format=rows to=rows",
    ),
)
