"""Commits on the hub that a run's revisions stand for; they stay the same from start to end."""

from __future__ import annotations

from alps.base.atomic import write_json
from alps.models.checkpoint import fetch, hub_commit
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run


def pin_commits(run: Run, folder: RunFolder) -> None:
    """Records the commits of model and data in `commits.json`, or compares them with it.

    Raises:
        RunFailed: If a revision stood for another commit when the run began.
    """
    found = {"model": hub_commit(fetch(run.model)), "data": run.data.commit()}
    now = {name: commit for name, commit in found.items() if commit}
    before = folder.read_commits()
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            raise RunFailed(
                f"the {name}'s revision was {before[name][:12]} on the hub when this run began and "
                f"is {now[name][:12]} now: set {name}.revision={before[name]}, or delete "
                f"{folder.path} to begin again"
            )
    write_json(folder.commits_path, {**now, **before})
