"""`alps cancel`: takes submitted runs out of the queue."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alps.cli.command import Sections, SettingsCommand
from alps.cli.jobs.status import StatusSettings, describe, select, states
from alps.cli.messages import exit_on_bad_input


def cancel(arguments: Sequence[str]) -> None:
    """Cancels jobs, and those that wait for them.

    Each FILTER is as in alps status; without one, everything that was submitted is cancelled. What
    trains stops with a checkpoint.
    """
    from alps.launch.slurm import control
    from alps.launch.slurm.cluster import SlurmError
    from alps.launch.slurm.submission import read_attempts
    from alps.report.runs.listing import matches

    with exit_on_bad_input():
        output_dir, entries, filters = select(arguments)
    everything = states(output_dir)
    asked = None if entries is None else {entry.key for entry in entries}
    chosen = {
        s.entry.key
        for s in everything
        if (asked is None or s.entry.key in asked) and matches(describe(s), filters)
    }
    keys = control.with_dependents(everything, chosen)
    if not keys:
        print("nothing to cancel: no such run is in the queue")
        return
    try:
        cancelled = [s for s in everything if s.entry.key in keys]
        control.cancel(cancelled, read_attempts(output_dir))
    except SlurmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    jobs = {s.entry.key: s.job for s in everything}
    for key, needed in keys.items():
        print(f"cancelled job {jobs[key]}: {key}" + (f", which needs {needed}" if needed else ""))
    print("`alps retry` submits them again")


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings

    return {"Settings": dataclass_settings(StatusSettings, skip=("poll_seconds",))}


command = SettingsCommand(
    cancel,
    sections,
    (
        "alps cancel                       # everything",
        "alps cancel method=random",
        "alps cancel state=waiting",
    ),
    metavar="[experiment=...] [FILTER]...",
)
