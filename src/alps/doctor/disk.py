"""Disks of outputs and caches against what the runs write there."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alps.base.atomic import can_hold_files
from alps.base.cache import cache_dir
from alps.doctor.commands import CommandFailed, output_of
from alps.doctor.context import Context
from alps.doctor.finding import Finding, State, check
from alps.doctor.resources import existing_parent
from alps.plan.cost import model_shape
from alps.settings.model import Model

FILES_PER_RUN = 200
"""More than a run with ten benchmarks writes."""

UNITS = {"": 1024, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
"""Bytes of the units that `quota -s` prints."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder that runs write to.

    Attributes:
        name: Its setting or variable.
        folder: The folder, which need not exist.
        needed: Bytes that will be written.
        remedy: How to use another folder.
    """

    name: str
    folder: Path
    needed: int
    remedy: str

    @cached_property
    def device(self) -> int:
        """Number of the file system."""
        return os.stat(existing_parent(self.folder)).st_dev


@check
def space(context: Context) -> Iterator[Finding]:
    """Free space where outputs, models and encoded data go; folders on one disk share it."""
    places = places_of(context)
    for place in places:
        if (problem := write_problem(place.folder)) is not None:
            text = f"{place.folder} cannot be written to ({problem})"
            yield Finding(name=place.name, state="missing", text=text, remedy=place.remedy)
            continue
        status = os.statvfs(existing_parent(place.folder))
        free = status.f_bavail * status.f_frsize
        together = [p for p in places if p.device == place.device]
        needed = sum(p.needed for p in together)
        text = f"{place.folder}: {_gb(free)} GB free, {_gb(place.needed)} GB needed"
        if place.needed and needed > place.needed:
            text += f", {_gb(needed)} GB with the others of this disk"
        state: State = "ok"
        if place.needed and needed > free:
            state, text = "missing", f"{text}: the disk fills up before the runs end"
        elif status.f_files and status.f_favail < FILES_PER_RUN * len(context.untrained):
            state = "missing"
            text += f", but only {status.f_favail} files (inodes) more"
        remedy = place.remedy if state != "ok" else ""
        yield Finding(name=place.name, state=state, text=text, remedy=remedy)


def write_problem(folder: Path) -> str | None:
    """Why no file can be made in a folder or above it, tried on a nameless one; or None."""
    if not can_hold_files(folder):
        return "no permission, or no folder"
    try:
        with tempfile.TemporaryFile(dir=existing_parent(folder)) as file:
            file.write(b"0")
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


@check
def quota(context: Context) -> Iterator[Finding]:
    """Quotas of this user, as the tool `quota` lists them."""
    try:
        rows = parse_quota(output_of(["quota", "-s"]))
    except CommandFailed:
        return  # no tool, or no quotas
    needed = places_of(context)[0].needed
    for system, used, limit in rows:
        text = f"{system}: {_gb(used)} of {_gb(limit)} GB used"
        state: State = "ok"
        if limit - used < needed:
            state, text = "warning", f"{text}, and the runs write {_gb(needed)} GB to output_dir"
        remedy = "output_dir on another disk, or weights=drop" if state == "warning" else ""
        yield Finding(name="quota", state=state, text=text, remedy=remedy)


def places_of(context: Context) -> Sequence[Place]:
    """Outputs first, then the caches."""
    from huggingface_hub import constants

    policy = context.assumed.weights
    outputs = {Path(run.output_dir) for run in context.runs}
    held = sum(_size(each.run.folder / "weights") for each in context.plan.runs)
    models = {run.model.fingerprint(): run.model for run in context.unfinished}.values()
    downloads = sum(weight_bytes(m, 2) for m in models if m.repo and not _in_hub_cache(m))
    converted = sum(weight_bytes(m, 4) for m in models if not m.repo and not _in_own_cache(m))
    smaller = "" if policy == "drop" else f"; weights={'qkv or ' * (policy == 'keep')}drop"
    return [
        Place(
            name="output_dir",
            folder=folder,
            needed=max(0, context.plan.disk[policy] - held) if context.untrained else 0,
            remedy=f"output_dir=<folder on another disk>{smaller} needs less"
            if smaller
            else "output_dir=<folder on another disk>",
        )
        for folder in outputs
    ] + [
        Place(
            name="HF_HOME",
            folder=Path(constants.HF_HUB_CACHE),
            needed=downloads,
            remedy="set HF_HOME to a folder on another disk",
        ),
        Place(
            name="ALPS_CACHE_DIR",
            folder=cache_dir(),
            needed=converted,
            remedy="set ALPS_CACHE_DIR to a folder on another disk",
        ),
    ]


def weight_bytes(model: Model, bytes_per_weight: int) -> int:
    """Size of a model's weights, or 0 if its shape is unknown."""
    shape = model_shape(model)
    return bytes_per_weight * shape.num_parameters if shape else 0


def parse_quota(text: str) -> list[tuple[str, int, int]]:
    """(file system, used bytes, limit) of each line of `quota -s` with a limit."""
    rows = []
    size = r"(\d+)([KMGT]?)\*?"
    for entry in re.sub(r"\n\s+(?=\d+[KMGT]?\*?\s)", " ", text).splitlines():
        if found := re.match(rf"\s*(\S+)\s+{size}\s+{size}\s+{size}\s", f"{entry} "):
            system, *numbers = found.groups()
            used, soft, hard = (
                int(number) * UNITS[unit]
                for number, unit in zip(numbers[::2], numbers[1::2], strict=True)
            )
            if limit := hard or soft:
                rows.append((system, used, limit))
    return rows


def _in_hub_cache(model: Model) -> bool:
    from alps.models.hub import is_cached

    return model.repo is not None and is_cached(model.repo, model.hub_revision)


def _in_own_cache(model: Model) -> bool:
    """Whether a converted model lies in the cache; one of a folder needs no conversion."""
    return bool(model.path) or any((cache_dir() / "models").glob(f"{model.name}-*/config.json"))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}"
