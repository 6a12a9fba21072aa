"""`alps cancel`: cancels the jobs of submitted runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alps.cli.command import Sections, SettingsCommand
from alps.cli.jobs.status import StatusSettings, answering_queue, chosen_states, select
from alps.cli.messages import error_sentence, exit_on_bad_input


def cancel(arguments: Sequence[str]) -> None:
    """Cancels jobs and their dependents.

    Each FILTER is as in alps status; without one, everything that was submitted is cancelled.
    Trainings stop with a checkpoint.
    """
    from alps.launch.slurm import control
    from alps.launch.slurm.cluster import SlurmError

    with exit_on_bad_input():
        output_dir, entries, filters = select(arguments)
    try:
        with exit_on_bad_input((ValueError,)):
            queue = answering_queue(output_dir)
        chosen = {state.entry.key for state in chosen_states(queue, entries, filters)}
        keys = control.with_dependents(chosen_states(queue, None, ()), chosen)
        jobs = control.cancel(keys, queue, output_dir) if keys else {}
    except (SlurmError, OSError) as error:
        print(f"error: {error_sentence(error)}; nothing was cancelled", file=sys.stderr)
        sys.exit(1)
    for key, ids in jobs.items():
        needed = f", which needs {keys[key]}" if keys[key] else ""
        print(f"cancelled job {' and '.join(ids)}: {key}{needed}")
    print(
        "`alps retry` submits them again"
        if jobs
        else "nothing to cancel: no matching run is queued"
    )


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
