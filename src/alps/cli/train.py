"""`alps train`: checks settings, hands them to Hydra, prints the table of the results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.serialization import SettingsError
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import debug_enabled, failure_message

if TYPE_CHECKING:
    from alps.config.run_plan import RunPlan


def train(arguments: Sequence[str]) -> None:
    """Trains, evaluates and tabulates runs.

    Finished runs are read, interrupted ones resumed. With -m, settings with several values make a
    grid; --cfg job prints the settings and stops. --hydra-help lists the other flags of Hydra.
    """
    from alps.config.build import check, register_resolvers
    from alps.config.compose import command_line, expand_shorthand, grid_problems, root_config_error
    from alps.config.errors import exit_with_errors
    from alps.config.overrides import may_sweep

    register_resolvers()
    try:
        flags = command_line(arguments)
        if problems := [*grid_problems(flags.overrides), *dropped_weights(flags.overrides)]:
            raise SettingsError(problems)
        overrides = expand_shorthand(flags.overrides)
        folder = flags.config_dir
        search = [f"hydra.searchpath=['file://{Path(folder).resolve()}']"] if folder else []
        sweeps = flags.multirun or may_sweep(overrides)
        check([*overrides, *search], sweeps)
        name = flags.config_name
        if name and (problem := root_config_error(name, folder)):
            raise SettingsError([problem])
    except SettingsError as error:
        exit_with_errors(error.problems)
    hydra_flags = [a for a in arguments if a not in flags.overrides]  # Hydra wants them first
    sys.argv = [sys.argv[0], *hydra_flags, *overrides]
    sys.exit(_run_hydra(overrides, [*overrides, *search], sweeps))


def _run_hydra(overrides: Sequence[str], checked: Sequence[str], sweeps: bool) -> int:
    """Runs Hydra's application on `sys.argv`; returns the exit code.

    Args:
        overrides: Overrides in `sys.argv`.
        checked: The same and the config folder, to explain what Hydra cannot compose.
        sweeps: Whether several values make a grid.
    """
    import hydra

    from alps.config.build import explain
    from alps.config.compose import VERSION_BASE
    from alps.config.conf_dir import conf_dir
    from alps.config.errors import exit_with_errors
    from alps.config.run_plan import new_plan

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    application = hydra.main(
        version_base=VERSION_BASE, config_path=str(conf_dir()), config_name="train"
    )(_run_point)
    code = 0
    with new_plan() as plan:
        try:
            application()
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if debug_enabled(overrides):
                raise
            if not plan.started:
                exit_with_errors(explain(checked, error, sweeps=sweeps))
            if not hasattr(error, "_printed"):
                print(f"error: {failure_message(error)}", file=sys.stderr)
            code = 1
        _conclude(plan)
        if plan.nodes is not None:
            plan.nodes.exit_code = code
    return code


def _run_point(config: Any) -> None:
    """Task function of Hydra: one run. It prints its failure, so that a sweep goes on."""
    from functools import partial

    from alps.config.build import build
    from alps.config.run_plan import current_plan
    from alps.execute import execute
    from alps.launch.queue import not_started
    from alps.launch.ranks import fit_on_devices
    from alps.runs.result import RunFailed

    run, plan = build(config), current_plan()
    if not plan.complete:
        plan.add([run], config.weights)  # a sweeper that draws its points as it goes
    plan.started = True
    try:
        if plan.fail_fast and plan.failed is not None:
            raise RunFailed(not_started(plan.failed))
        execute(run, partial(fit_on_devices, nodes=plan.nodes))
    except Exception as error:
        plan.failed = plan.failed or run.key
        if not config.debug:
            print(f"error: {run.key}: {failure_message(error)}", file=sys.stderr)
        error._printed = True  # pyright: ignore[reportAttributeAccessIssue]
        raise
    if plan.complete:
        plan.free_disk()


def _conclude(plan: RunPlan) -> None:
    """Applies the retention policy, prints the table, and writes that of a sweep."""
    from alps.report.runs.collect import collect
    from alps.report.runs.table import print_table, write_table

    if not plan.runs:
        return  # --hydra-help, --cfg
    plan.free_disk()
    rows = collect(plan.runs)
    print_table(rows)
    if plan.sweep_dir:
        paths = write_table(rows, plan.sweep_dir)
        print(f"table: {' and '.join(map(str, paths))}; runs: {plan.runs[0].folder.parent}")
    else:
        print(f"files: {plan.runs[0].folder}")


def dropped_weights(arguments: Sequence[str]) -> Iterator[str]:
    """Sentences about weights that would be deleted before a figure scores them."""
    from alps.report.table.paper import HEAD_SHEETS

    if "weights=drop" in arguments:
        for name in (n for n in HEAD_SHEETS if f"experiment={n}" in arguments):
            yield (
                f"experiment={name} shows scores of the trained weights, which weights=drop "
                "deletes before `alps report` can compute them: use weights=qkv"
            )


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import group_settings, part_settings, root_settings

    parts = ("method", "model", "data", "task_model", "optim", "trainer", "evals", "logger")
    return {
        "Settings": root_settings("train"),
        "Choices, files of conf/NAME": group_settings(),
        **part_settings(*parts),
    }


command = SettingsCommand(
    train,
    sections,
    (
        "alps train method=alps ratio=0.1 model=llama3_2_1b data=alpaca",
        "alps train -m method=alps,random ratio=0.1,0.3 seed=0,1",
        "alps train experiment=table1 scale=mini",
    ),
)
