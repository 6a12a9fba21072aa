"""`alps logs`: the output of a run's last job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.jobs.status import StatusSettings
from alps.cli.messages import exit_on_bad_input

FOLLOW = ("-f", "--follow")
POLL_SECONDS = 1.0


def logs(arguments: Sequence[str]) -> None:
    """Prints the output of a run's last job.

    For a run without a job, prints its train.log. KEY is any unique part of a run's key. -f follows
    the output until the job ends.
    """
    follow = any(a in FOLLOW for a in arguments)
    values, others = split_settings([a for a in arguments if a not in FOLLOW], ("output_dir",))
    output_dir = values.get("output_dir", StatusSettings.output_dir)
    with exit_on_bad_input():
        if len(others) != 1:
            raise ValueError("alps logs takes the key of one run; `alps status` lists them")
        key, path = find_log(output_dir, others[0])
    print(f"==> {path}", file=sys.stderr)
    position = 0
    while True:
        active = follow and is_active(output_dir, key)
        position = _print_from(path, position)
        if not active:
            break
        time.sleep(POLL_SECONDS)
    if not position:
        print("no output yet; `alps status` says why", file=sys.stderr)


def find_log(output_dir: str, part: str) -> tuple[str, Path]:
    """Key of the one run that contains `part`, and its log.

    Raises:
        ValueError: If none or several match.
    """
    from alps.launch.slurm.submission import read_attempts
    from alps.runs.folder import find_run

    attempts = read_attempts(output_dir)
    found = [key for key in attempts if part in key]
    exact = [key for key in found if key == part] or found
    if len(exact) == 1 and part:
        return exact[0], attempts[exact[0]][-1].log
    if exact:
        raise ValueError(f"{len(exact)} runs have {part!r} in their key: {', '.join(exact[:5])}")
    folder = find_run(Path(output_dir), part)
    return folder.path.name, folder.path / "train.log"


def is_active(output_dir: str, key: str) -> bool:
    """Whether the run is in the queue, or a process is at it."""
    from alps.cli.jobs.status import chosen_states, queue_view
    from alps.runs.folder import RunFolder

    states = chosen_states(queue_view(output_dir), None, ())
    found = next((s for s in states if s.entry.key == key), None)
    if found is None:
        return RunFolder(Path(output_dir, "runs", key)).status()["state"] == "running"
    return found.queued or found.state == "running"


def _print_from(path: Path, position: int) -> int:
    """Prints what a file has behind a position; returns the new one."""
    if not path.exists():
        return position
    with path.open("rb") as file:
        file.seek(position)
        text = file.read()
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return position + len(text)


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings

    return {"Settings": dataclass_settings(StatusSettings, skip=("poll_seconds",))}


command = SettingsCommand(
    logs,
    sections,
    ("alps logs alps-1f3a", "alps logs full-9b2c -f", "alps logs base-77d1 output_dir=/scratch/me"),
    metavar="KEY [-f]",
)
