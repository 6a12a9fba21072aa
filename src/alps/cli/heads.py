"""`alps localize` and `alps heads`: which heads a task moved, without training anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LISTS = ("metric",)
"""Settings that take several values; Hydra would read a bare comma list as a sweep."""


def localize(arguments: Sequence[str]) -> None:
    """Scores all heads of a pair of checkpoints and chooses the top ones."""
    from alps.config import build as config
    from alps.localization.request import Request

    try:
        composed = config.compose_config([bracketed(a) for a in arguments], "localize")
        request: Request = config.build_request(composed)
        folder, sets = _localized(request)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(problems_of(error)))

    from alps.report.heads.overlap import compare
    from alps.report.heads.overlap_view import print_comparison
    from alps.report.heads.summary import print_heads

    print_heads(sets[request.metric[0]])
    if len(sets) > 1:
        print_comparison(compare(list(sets.items())))
    print(f"files: {folder}")


def heads(arguments: Sequence[str]) -> None:
    """`alps heads show FILE` and `alps heads compare FILE FILE ...`."""
    from alps.config import build as config

    actions = {"show": _show, "compare": _compare}
    action, *rest = arguments or [""]
    files = [a for a in rest if "=" not in a]
    settings = dict(a.split("=", 1) for a in rest if "=" in a)
    try:
        if action not in actions:
            raise ValueError("alps heads needs to know what to do: show FILE, or compare FILE FILE")
        actions[action](files, settings)
    except OSError as error:
        sys.exit(config.refuse([f"{error.filename} cannot be read ({error.strerror})"]))
    except ValueError as error:
        sys.exit(config.refuse([str(error)]))


def _localized(request: Any) -> tuple[Path, dict[str, Any]]:
    """Scores, chosen heads and heat maps in the pair's folder."""
    from alps.base.atomic import write_json
    from alps.config.build import model_choice
    from alps.localization.cache import CheckpointPair, localize_cached
    from alps.pipeline.checkpoints import resolve_checkpoint
    from alps.report.heads.heat_map import draw_heat_map
    from alps.scores import non_default_options

    output_dir = Path(request.output_dir)
    places = {}
    for name in ("base", "task"):
        with progress_bar(
            f"fetching q, k, v of {getattr(request, name)}", in_bytes=True
        ) as progress:
            text = getattr(request, name)
            places[name] = resolve_checkpoint(name, text, output_dir, model_choice, progress)
    base, task = places["base"], places["task"]
    pair = CheckpointPair(
        base=base.path,
        task=task.path,
        base_name=request.base,
        task_name=request.task,
        base_hash=base.identity,
        task_hash=task.identity,
        geometry=base.geometry or task.geometry,
        matrix=request.matrix,
        bias=request.bias,
        compat=request.compat,
        options=non_default_options(request.options, request.metric),
    )
    with progress_bar("scoring KV groups") as progress:
        scores = localize_cached(output_dir, pair, list(request.metric), progress)
    sets = {metric: s.top(request.ratio) for metric, s in scores.items()}
    folder = pair.folder(output_dir)
    for metric, chosen in sets.items():
        write_json(folder / f"heads-{metric}.json", chosen.to_json())
        draw_heat_map(chosen, folder / f"heat_map-{metric}.png")
    write_json(folder / "heads.json", sets[request.metric[0]].to_json())
    return folder, sets


def _show(files: Sequence[str], settings: dict[str, str]) -> None:
    from alps.heads.head_set import HeadSet
    from alps.report.heads.heat_map import draw_heat_map
    from alps.report.heads.summary import print_heads

    _refuse_unknown(settings, ("png", "top"))
    if len(files) != 1:
        raise ValueError(f"alps heads show takes one heads.json, got {len(files)}")
    if not settings.get("top", "10").isdecimal():
        raise ValueError(f"top must be a whole number, got {settings['top']}")
    path = Path(files[0])
    head_set = HeadSet.read(path)
    picture = Path(settings.get("png", path.with_suffix(".png")))
    draw_heat_map(head_set, picture)
    print_heads(head_set, int(settings.get("top", "10")))
    print(f"picture: {picture}")


def _compare(files: Sequence[str], settings: dict[str, str]) -> None:
    from alps.base.atomic import write_json
    from alps.base.hashing import digest
    from alps.heads.head_set import HeadSet
    from alps.report.heads.overlap import compare, labels, to_json
    from alps.report.heads.overlap_view import draw_overlap, print_comparison

    _refuse_unknown(settings, ("to", "output_dir"))
    paths = [Path(f) for f in files]
    comparison = compare(list(zip(labels(paths), map(HeadSet.read, paths), strict=True)))
    plain = to_json(comparison)
    reports = Path(settings.get("output_dir", "outputs")) / "reports"
    folder = Path(settings.get("to", reports / f"overlap-{digest(plain)[:12]}"))
    draw_overlap(comparison, folder / "overlap.png")
    write_json(folder / "overlap.json", plain)
    print_comparison(comparison)
    print(f"files: {folder}")


def _refuse_unknown(settings: dict[str, str], known: Sequence[str]) -> None:
    from alps.base.serialization import did_you_mean

    for name in settings:
        if name not in known:
            raise ValueError(f"there is no setting {name}{did_you_mean(name, known)}")


def bracketed(argument: str) -> str:
    """A comma list of values as Hydra writes a list: metric=pad,kl becomes metric=[pad,kl]."""
    name, equals, value = argument.partition("=")
    return f"{name}=[{value}]" if equals and name in LISTS and value[:1] != "[" else argument


def sentence(error: Exception) -> str:
    """What went wrong, in one line; of a file, its name too."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used ({error.strerror})"
    return " ".join(str(error).split())


def problems_of(error: Exception) -> list[str]:
    """What went wrong, one sentence for each problem."""
    return getattr(error, "problems", [sentence(error)])


@contextmanager
def progress_bar(text: str, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr that appears with the first report."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task(text, total=total))
            bar.update(tasks[0], completed=done, total=total)

        yield report
