"""`alps train`: the settings checked, then handed to Hydra, then the table of what came out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def train(arguments: Sequence[str]) -> None:
    """Hands the arguments to Hydra, then prints the table of what was asked for."""
    import hydra

    from alps.config import build as config
    from alps.config import callback
    from alps.config.compose import (
        VERSION_BASE,
        command_line,
        conf_dir,
        foreign_root,
        grid_problems,
        paths_told,
    )
    from alps.config.overrides import makes_grid

    config.register_resolvers()
    try:
        given = command_line(arguments)
        if problems := [*grid_problems(given.overrides), *unscored(given.overrides)]:
            raise config.SettingsError(problems)
        told = paths_told(given.overrides)
        folder = (
            given.config_dir and f"hydra.searchpath=['file://{Path(given.config_dir).resolve()}']"
        )
        checked = [*told, folder] if folder else told
        sweeps = given.multirun or makes_grid(told)
        config.check(checked, sweeps)
        name = given.config_name
        if name and (problem := foreign_root(name, given.config_dir)):
            raise config.SettingsError([problem])
    except config.SettingsError as error:
        sys.exit(config.refuse(error.problems))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    flags = [a for a in arguments if a not in given.overrides]  # Hydra wants them first
    sys.argv = [sys.argv[0], *flags, *told]
    application = hydra.main(
        version_base=VERSION_BASE, config_path=str(conf_dir()), config_name="train"
    )(_point)
    code = 0
    try:
        application()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debugs(told):
            raise
        if not callback.planned.started:
            sys.exit(config.refuse(config.explain(checked, error, sweeps=sweeps)))
        if not hasattr(error, "_told"):
            print(f"error: {failure(error)}", file=sys.stderr)
        code = 1
    _conclude(callback.planned)
    sys.exit(code)


def _point(config: Any) -> None:
    """One run, inside Hydra. A failure is told here, so that a sweep goes on with the others."""
    from alps.config.build import build
    from alps.config.callback import planned
    from alps.execute import execute
    from alps.launch.ranks import fit_on_devices

    run = build(config)
    if not planned.complete:
        planned.add([run], config.weights)  # a sweeper that draws its points as it goes
    planned.started = True
    try:
        execute(run, fit_on_devices)
    except Exception as error:
        if not config.debug:
            print(f"error: {run.key}: {failure(error)}", file=sys.stderr)
        error._told = True  # pyright: ignore[reportAttributeAccessIssue]
        raise
    if planned.complete:
        planned.reduce()


def _conclude(planned: Any) -> None:
    from alps.report.runs.collect import collect
    from alps.report.runs.table import print_table, write_table

    if not planned.runs:
        return  # --help, --cfg
    planned.reduce()
    rows = collect(planned.runs)
    print_table(rows)
    if planned.sweep_dir:
        paths = write_table(rows, planned.sweep_dir)
        print(f"table: {' and '.join(map(str, paths))}; runs: {planned.runs[0].folder.parent}")
    else:
        print(f"files: {planned.runs[0].folder}")


def unscored(arguments: Sequence[str]) -> Iterator[str]:
    """Sentences about weights that would be deleted before a figure scores them."""
    from alps.report.table.paper import HEAD_SHEETS

    if "weights=drop" in arguments:
        for name in (n for n in HEAD_SHEETS if f"experiment={n}" in arguments):
            yield (
                f"experiment={name} shows scores of the trained weights, which weights=drop "
                "deletes before `alps report` can compute them: use weights=qkv"
            )


def debugs(arguments: Sequence[str]) -> bool:
    """Whether tracebacks are asked for."""
    return "debug=true" in [a.lower() for a in arguments]


def failure(error: BaseException) -> str:
    """What an exception says, in one line; of an unexpected one, its kind too."""
    from alps.runs.result import RunFailed

    text = " ".join(str(error).split())
    return text if isinstance(error, RunFailed | ValueError) else f"{type(error).__name__}: {text}"
