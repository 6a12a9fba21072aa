"""`alps status`: the states of submitted runs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input

if TYPE_CHECKING:
    from alps.launch.slurm.job_states import RunState
    from alps.launch.slurm.queue_view import QueueView
    from alps.launch.slurm.submission import Entry

WATCH = "--watch"
COLUMNS = ("run", "state", "step", "left", "node", "job", "reason")
"""Columns that no setting is."""


@dataclass(frozen=True, kw_only=True)
class StatusSettings:
    """Settings of `alps status`.

    Attributes:
        output_dir: Folder of the outputs.
        poll_seconds: How often --watch asks.
    """

    output_dir: str = "outputs"
    poll_seconds: int = 5


def status(arguments: Sequence[str]) -> None:
    """Lists the states of submitted runs.

    A run is finished, running (with its step, the time left and its node), waiting (for resources),
    blocked (by its task model), failed, stopped, lost (its job is gone) or missing (never
    submitted). With experiment=... and its settings, lists the runs of that table, submitted or
    not. Each FILTER is as in alps runs: a word that a run's line contains, or name=value for one of
    its columns. --watch refreshes until nothing is queued or running.
    """
    watch = WATCH in arguments
    others = [a for a in arguments if a != WATCH]
    with exit_on_bad_input():
        values, rest = split_settings(others, ("poll_seconds",))
        output_dir, entries, filters = select(rest)
        pause = float(values.get("poll_seconds", StatusSettings.poll_seconds))
        if not pause > 0:
            raise ValueError(f"poll_seconds={pause:g} must be greater than 0")
    shown = ""
    while True:
        with exit_on_bad_input():
            lines, active = status_lines(output_dir, entries, filters)
        text = _table(lines, output_dir, filters)
        if text != shown:
            clear = "\x1b[2J\x1b[H" if watch and sys.stdout.isatty() else ""
            print(f"{clear}{text}", flush=True)
            shown = text
        if not watch or not active:
            return
        time.sleep(pause)


def select(arguments: Sequence[str]) -> tuple[str, list[Entry] | None, list[str]]:
    """Outputs folder, the runs of an experiment if one is named, and the filters.

    Raises:
        ValueError: If settings of the experiment are invalid.
    """
    from alps.base.serialization import did_you_mean
    from alps.report.runs.listing import SETTINGS

    values, others = split_settings(arguments, ("output_dir",))
    output_dir = values.get("output_dir", StatusSettings.output_dir)
    names = (*COLUMNS, *SETTINGS)
    of_experiment = any(a.startswith("experiment=") for a in others)
    for argument in others:
        name, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            raise ValueError(f"'{argument}' is no option of this command")
        if equals and not of_experiment and name not in names:
            hint = did_you_mean(name, names) or f": columns are {', '.join(names)}"
            raise ValueError(f"{argument}: there is no column '{name}'{hint}")
    if "output_dir" in values and not Path(output_dir).is_dir():
        raise ValueError(f"output_dir={output_dir} is no folder")
    if not any(a.startswith("experiment=") for a in others):
        return output_dir, None, others
    from alps.cli.jobs.submit import requested_runs
    from alps.launch.slurm.submit import missing_entries

    settings = [a for a in others if "=" in a and a.partition("=")[0] not in COLUMNS]
    own = [f"output_dir={output_dir}"] if "output_dir" in values else []
    runs, bases = requested_runs([*settings, *own])
    filters = [a for a in others if a not in settings]
    return output_dir, missing_entries(runs, bases, finished=True), filters


def queue_view(output_dir: str) -> QueueView:
    """All that was submitted, and the queue; says so if it is silent.

    Raises:
        ValueError: If a submission cannot be read.
    """
    from alps.launch.slurm.cluster import QueueUnavailable, missing_requirement
    from alps.launch.slurm.queue_view import QueueView
    from alps.launch.slurm.submission import read_attempts

    attempts = read_attempts(output_dir)
    try:
        if not missing_requirement():
            return QueueView.now(attempts)
    except QueueUnavailable as error:
        print(f"warning: {error}; states come from the run folders alone", file=sys.stderr)
    return QueueView(attempts=attempts)


def answering_queue(output_dir: str) -> QueueView:
    """All that was submitted, and the queue, for commands that change it.

    Raises:
        ValueError: If a submission cannot be read, or this machine has no SLURM.
        QueueUnavailable: If the queue does not answer.
    """
    from alps.launch.slurm.cluster import missing_requirement
    from alps.launch.slurm.queue_view import QueueView
    from alps.launch.slurm.submission import read_attempts

    if problem := missing_requirement():
        raise ValueError(problem)
    return QueueView.now(read_attempts(output_dir))


def chosen_states(
    queue: QueueView, entries: Sequence[Entry] | None, filters: Sequence[str]
) -> list[RunState]:
    """States of these runs, or of all that was submitted, whose lines match every filter."""
    from alps.launch.slurm.job_states import last_entries, run_states
    from alps.report.runs.listing import matches

    asked = entries if entries is not None else last_entries(queue.attempts).values()
    return [state for state in run_states(asked, queue) if matches(searched(state), filters)]


def searched(state: RunState) -> dict[str, str]:
    """What filters look at: all but the reason, which names other runs."""
    return {name: text for name, text in describe(state).items() if name != "reason"}


def status_lines(
    output_dir: str, entries: Sequence[Entry] | None, filters: Sequence[str]
) -> tuple[list[dict[str, str]], bool]:
    """A line for each chosen run, and whether any is running or in the queue."""
    found = chosen_states(queue_view(output_dir), entries, filters)
    active = any(state.queued or state.state == "running" for state in found)
    return [describe(state) for state in found], active


def describe(state: RunState) -> dict[str, str]:
    """State and settings of a run as texts, by heading."""
    from alps.report.runs.listing import SETTINGS, describe_settings
    from alps.report.style import DASH

    settings: dict[str, str] = dict.fromkeys(SETTINGS, DASH)
    with suppress(ValueError):  # settings of another version
        settings |= describe_settings(state.entry.run)
    progress = state.progress
    left = progress.seconds_left if progress else None
    attempt = f" (attempt {state.attempt})" if state.attempt > 1 else ""
    return {
        "run": state.entry.key,
        **settings,
        "state": state.state,
        "step": f"{progress.step}/{progress.num_steps}" if progress else "",
        "left": duration(left) if left is not None else "",
        "node": state.node,
        "job": f"{state.job}{attempt}" if state.job else "",
        "reason": state.reason,
    }


def duration(seconds: float) -> str:
    """A duration as `2 d 3 h`, `3 h 20 min`, `5 min` or `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes % (24 * 60) // 60} h"


def _table(lines: Sequence[dict[str, str]], output_dir: str, filters: Sequence[str]) -> str:
    from alps.report.text_tables import terminal, terminal_table

    if not lines:
        which = f" that matches {' '.join(filters)}" if filters else ""
        return f"nothing was submitted from {output_dir}{which}; `alps runs` lists runs"
    shown = [n for n in lines[0] if n in ("run", "state") or _tells(n, lines)]
    console = terminal(200)
    with console.capture() as captured:
        rows = [[line[name] for name in shown] for line in lines]
        console.print(terminal_table(shown, shown, rows))
    counts = Counter(line["state"] for line in lines)
    summary = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    return f"{captured.get()}\n{summary}"


def _tells(name: str, lines: Sequence[dict[str, str]]) -> bool:
    """Whether a column is worth its space: settings in which runs differ, states that there are."""
    values = {line[name] for line in lines}
    return values != {""} if name in COLUMNS else len(values) > 1


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings, group_settings

    return {
        "Settings": dataclass_settings(StatusSettings),
        "Choices, files of conf/NAME": group_settings("experiment", "scale"),
    }


command = SettingsCommand(
    status,
    sections,
    (
        "alps status",
        "alps status state=failed          # with the reasons",
        "alps status experiment=table1 --watch",
    ),
    metavar="[--watch] [experiment=...] [FILTER]...",
)
