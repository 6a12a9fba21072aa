"""Sends a record to W&B, or records it offline; what W&B has already is not sent again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alps.base.hashing import digest
from alps.heads.head_set import HeadSet
from alps.tracking.background import Background
from alps.tracking.record import Record
from alps.tracking.sent import Sent, offline_folders, read_sent, target_digest
from alps.tracking.session import open_session, session_mode

DrawHeads = Callable[[HeadSet, Path], None]
"""Draws a heat map into a PNG file."""


def send(record: Record, draw: DrawHeads, *, force: bool = False) -> str:
    """Creates, completes or repairs the W&B run of a record.

    Steps have their number as W&B's step, so that those it has are not added again.

    Args:
        record: What the run shows.
        draw: Draws heat maps.
        force: Send everything again.

    Returns:
        What was done, in a few words.
    """
    mode, folder = session_mode(), record.folder
    if mode == "disabled":
        return "nothing sent: W&B is disabled"
    target, content = target_digest(record.identity.logger), record.digest()
    rows = digest(list(map(dict, record.rows)))
    before = read_sent(folder)
    if force or before is None or before.target != target or not before.is_complete(folder):
        before = Sent(target=target)
    if before.record == content:
        return f"up to date ({mode})"
    send_rows = before.rows != rows
    session = open_session(record.identity, folder, live=False)
    try:
        with TemporaryDirectory() as temporary:
            if send_rows:
                for step, values in record.row_values():
                    session.log(values, step=step)
            _log_media(session, record, draw, Path(temporary))
            session.summary.update(dict(record.summary))
            _log_files(session, record)
    except BaseException:
        session.finish(exit_code=1)
        raise
    session.finish(exit_code=1 if record.summary.get("state") == "failed" else 0)
    offline = offline_folders(folder) if mode == "offline" else ()
    Sent(target=target, rows=rows, record=content, offline=offline).write(folder)
    steps = f"{len(record.rows)} steps, " if send_rows and record.rows else ""
    return f"{'recorded' if mode == 'offline' else 'sent'}: {steps}{_content(record)} ({mode})"


def send_guarded(make: Callable[[], Record], draw: DrawHeads) -> None:
    """Sends a record, and waits for that a while; an error is a warning: all is in files anyway."""
    Background("wandb").close(lambda: send(make(), draw))


def _log_media(session: Any, record: Record, draw: DrawHeads, temporary: Path) -> None:
    """Heat maps, images and tables, in a step after the last: W&B takes no earlier one."""
    import wandb

    media: dict[str, Any] = {}
    for name, heads in record.heads.items():
        path = temporary / f"{name}.png"
        draw(heads, path)
        media[f"heads/{name}"] = wandb.Image(str(path))
    for name, path in record.images.items():
        media[name] = wandb.Image(str(path))
    for name, (headings, rows) in record.tables.items():
        media[name] = wandb.Table(columns=list(headings), data=[list(row) for row in rows])
    if media:
        session.log(media, step=record.last_step + 1)


def _log_files(session: Any, record: Record) -> None:
    """Artifacts; their content is hashed, and W&B keeps one version of equal ones."""
    import wandb

    for kind, paths in record.files.items():
        artifact = wandb.Artifact(f"{kind}-{_artifact_name(record.identity.key)}", type=kind)
        for path in paths:
            artifact.add_file(str(path), name=path.name)
        session.log_artifact(artifact)


def _artifact_name(key: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in key)


def _content(record: Record) -> str:
    parts = ["summary"] if record.summary else []
    parts += ["heat map"] if record.heads else []
    parts += [f"{kind.replace('_', ' ')} file" for kind in record.files]
    return ", ".join([*parts, *(f"table {name}" for name in record.tables)])
