"""`alps retry`: resubmits runs that ended without finishing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from alps.cli.command import Sections, SettingsCommand
from alps.cli.jobs.status import StatusSettings, answering_queue, chosen_states, select
from alps.cli.messages import error_sentence, exit_on_bad_input

if TYPE_CHECKING:
    from alps.launch.slurm.settings import Slurm


def retry(arguments: Sequence[str]) -> None:
    """Resubmits runs that ended without finishing.

    These failed, were stopped or blocked, or lost their job; each FILTER is as in alps status. They
    keep the settings they were submitted with; hydra.launcher.mem=64G and the like change those of
    their jobs. Trainings resume from their last checkpoints.
    """
    from alps.cli.jobs.submit import print_submitted
    from alps.launch.slurm import control
    from alps.launch.slurm.cluster import SlurmError

    changes = [a for a in arguments if a.lstrip("+~").startswith("hydra.launcher.")]
    with exit_on_bad_input():
        output_dir, entries, filters = select([a for a in arguments if a not in changes])
        change = changed_settings(changes)
    try:
        with exit_on_bad_input((ValueError,)):
            queue = answering_queue(output_dir)
        found = chosen_states(queue, entries, filters)
        chosen = [state for state in found if state.entry.key in queue.attempts]
        done = control.retry(chosen, queue.attempts, output_dir, change)
    except (SlurmError, OSError) as error:
        print(f"error: {error_sentence(error)}; nothing more was submitted", file=sys.stderr)
        sys.exit(1)
    if not done:
        print("nothing to retry: no matching run ended without finishing")
        return
    sys.exit(print_submitted(done, ""))


def changed_settings(overrides: Sequence[str]) -> Callable[[Slurm], Slurm]:
    """Replaces some settings of former jobs.

    Raises:
        SettingsError: If the overrides are invalid.
    """
    from dataclasses import replace

    from alps.config.launcher import job_settings

    names = {override.lstrip("+~").split("=")[0].split(".")[2] for override in overrides}
    new = job_settings(overrides)
    return lambda slurm: replace(slurm, **{name: getattr(new, name) for name in names})


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings
    from alps.launch.slurm.settings import Slurm

    return {
        "Settings": dataclass_settings(StatusSettings, skip=("poll_seconds",)),
        "Settings of a job": dataclass_settings(Slurm, prefix="hydra.launcher."),
    }


command = SettingsCommand(
    retry,
    sections,
    (
        "alps retry",
        "alps retry experiment=table1 state=lost",
        "alps retry state=failed hydra.launcher.mem=64G",
    ),
    metavar="[experiment=...] [FILTER]...",
)
