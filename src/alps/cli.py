"""The command line: `alps train|evaluate|runs|export`. Heavy imports wait until they are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HELP = """\
alps: localize attention heads, train only those, compare honestly.

  alps train [-m] [setting=value ...]      train, evaluate and tabulate (same as python train.py)
  alps evaluate [-m] [run=KEY|model=PATH] [setting=value]
                                           benchmarks for a trained run, or for a model as it is
  alps localize base=A task=B [metric=pad,kl] [ratio=0.1]
                                           which heads differ between two checkpoints
  alps heads show FILE                     a heads.json as heat map, on the terminal and as PNG
  alps heads compare FILE FILE ...         how far head sets agree
  alps data data=NAME [samples=2]          rows of a dataset as a model reads them
  alps embed data=A,B,C                    where datasets lie in a model's space (Figure 7)
  alps plan experiment=A,B [gpu=a100_80g]  which runs tables need, and what those to come cost
  alps prefetch [setting=value ...]        fetch what runs need, for machines without a network
  alps runs [FILTER ...]                   list runs; a filter is a word or name=value
  alps report experiment=table1            an experiment's table beside the paper's, and its figures
  alps export run=KEY format=hf to=FOLDER  write a run as a folder that transformers loads

  alps train --cfg job                     show the settings and stop
  alps train -m method=alps,random ratio=0.1,0.3

KEY is any unique part of a run's key. Settings: the folders of conf/ (method, model, data,
task_model, optim, trainer, evals, logger, preset, experiment) and ratio, scope, seed, output_dir.
"""


def main() -> None:
    """Entry point `alps`."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if command == "--version":
        from importlib.metadata import version

        print(version("alps"))
        return
    from alps.cli_data import data, prefetch
    from alps.cli_embed import embed
    from alps.cli_heads import heads, localize
    from alps.cli_plan import plan
    from alps.cli_report import report

    commands = {
        "train": train,
        "evaluate": evaluate,
        "localize": localize,
        "heads": heads,
        "data": data,
        "embed": embed,
        "plan": plan,
        "prefetch": prefetch,
        "runs": runs,
        "report": report,
        "export": export,
    }
    if command not in commands:
        from alps.plain import did_you_mean

        print(
            f"error: there is no command '{command}'{did_you_mean(command, commands)}",
            file=sys.stderr,
        )
        sys.exit(2)
    commands[command](rest)


def train(arguments: Sequence[str]) -> None:
    """Hands the arguments to Hydra, then prints the table of what was asked for."""
    import hydra

    from alps import callback, config
    from alps.composing import VERSION_BASE, command_line, conf_dir, grid_problems, paths_told
    from alps.overrides import makes_grid

    config.register_resolvers()
    try:
        given = command_line(arguments)
        if problems := grid_problems(given.overrides):
            raise config.SettingsError(problems)
        told = paths_told(given.overrides)
        folder = (
            given.config_dir and f"hydra.searchpath=['file://{Path(given.config_dir).resolve()}']"
        )
        checked = [*told, folder] if folder else told
        sweeps = given.multirun or makes_grid(told)
        config.check(checked, sweeps)
    except config.SettingsError as error:
        sys.exit(config.refuse(error.problems))
    debug = "debug=true" in [a.lower() for a in told]
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
        if debug:
            raise
        if not callback.planned.started:
            sys.exit(config.refuse(config.explain(checked, error, sweeps=sweeps)))
        if not hasattr(error, "_told"):
            print(f"error: {_sentence(error)}", file=sys.stderr)
        code = 1
    _conclude(callback.planned)
    sys.exit(code)


def evaluate(arguments: Sequence[str]) -> None:
    """Benchmarks for a trained run (`run=KEY`), or for base models: one, or with -m a grid's."""
    from alps import config
    from alps.preflight import check

    _log_plainly()
    settings = [a for a in arguments if a not in ("-m", "--multirun")]
    try:
        whole_grid = len(settings) < len(arguments)
        examined = _bases(settings) if whole_grid else [_examined(settings)]
        for run, trained in examined:
            check(run, trains=trained)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(getattr(error, "problems", [str(error)])))
    failed = False
    for run, trained in examined:
        try:
            _examine(run, trained)
        except SystemExit as ended:  # told already; the others go on
            if ended.code != 1:
                raise
            failed = True
    sys.exit(int(failed))


def _examine(run: Any, trained: bool) -> None:
    from alps.execute import evaluate_base, execute
    from alps.launch.ranks import examine_on_devices, fit_on_devices
    from alps.report.evaluated import print_evaluations
    from alps.run_folder import RunFolder

    folder = RunFolder(run.folder if trained else run.base_folder)
    with _one_sentence(folder.path.name):
        examine_on_devices(run, folder)
        if trained:
            execute(run, fit_on_devices)
        else:
            evaluate_base(run)
    print_evaluations(folder, run.evals.allowed)


def _bases(arguments: Sequence[str]) -> list[tuple[Any, bool]]:
    """A run for each base model and data of a grid; none of them is to be trained."""
    from alps.config import runs_of

    return [(run, False) for run in {run.base_key: run for run in runs_of(arguments)}.values()]


def _examined(arguments: Sequence[str]) -> tuple[Any, bool]:
    """The run whose model is examined, and whether that is the trained one."""
    from dataclasses import replace

    from alps import config
    from alps.execute import finished
    from alps.plain import SettingsError
    from alps.run_folder import find_run

    composed = config.compose_config(list(arguments), "evaluate")
    if composed.run is None:
        return config.build(composed), False
    folder = find_run(Path(composed.output_dir), str(composed.run))
    run = folder.read_run()
    problems: list[str] = []
    plain = config.plain_config(composed)
    evals = config.build_evals(plain["evals"], run.data.task, problems)
    if evals is None:
        raise SettingsError(problems)
    trainer = replace(run.trainer, devices=plain["trainer"]["devices"])
    run = replace(run, evals=evals, trainer=trainer)
    if not finished(run, folder) and (lacking := folder.lacks()):
        raise ValueError(lacking)
    return run, True


def runs(arguments: Sequence[str]) -> None:
    """Lists runs with settings and state."""
    from alps.report.listing import print_runs

    settings = dict(a.split("=", 1) for a in arguments if a.startswith("output_dir="))
    filters = [a for a in arguments if not a.startswith("output_dir=")]
    print_runs(Path(settings.get("output_dir", "outputs")), filters)


def export(arguments: Sequence[str]) -> None:
    """Writes a trained run as a folder for other programs: plain model, rows or PEFT adapter."""
    from alps.config import refuse
    from alps.models.export import FORMATS, rank_warnings, write
    from alps.plain import did_you_mean
    from alps.run_folder import find_run

    known = {"run": None, "format": "hf", "to": None, "output_dir": "outputs"}
    given: dict[str, Any] = dict(known)
    problems = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in known:
            problems.append(f"'{argument}' is not understood{did_you_mean(name, known)}")
        given[name] = value
    problems += [f"{n}=... is missing" for n in ("run", "to") if not given[n]]
    if given["format"] not in FORMATS:
        close = did_you_mean(given["format"], FORMATS)
        problems.append(f"format={given['format']} is not possible{close}")
    if problems:
        sys.exit(refuse(problems))
    to = Path(given["to"])
    try:
        folder = find_run(Path(given["output_dir"]), given["run"])
        run = folder.read_run()
        if lacking := folder.lacks():
            raise ValueError(lacking)
        if to.exists():
            raise ValueError(f"{to} exists already; nothing is overwritten: choose another folder")
    except ValueError as error:
        sys.exit(refuse([str(error)]))
    with _one_sentence(run.key):
        from alps.training.restore import restore

        try:
            ranks = write(run, given["format"], to, restore, folder)
        except ValueError as error:
            sys.exit(refuse([f"{run.key}: {_sentence(error)}"]))
    largest = f"; largest rank {max(ranks.values())}" if ranks else ""
    print(f"{run.key} is in {to}{largest}")
    for warning in rank_warnings(ranks):
        print(f"warning: {warning}", file=sys.stderr)


def _point(config: Any) -> None:
    """One run, inside Hydra. A failure is told here, so that a sweep goes on with the others."""
    from alps.callback import planned
    from alps.config import build
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
            print(f"error: {run.key}: {_sentence(error)}", file=sys.stderr)
        error._told = True  # pyright: ignore[reportAttributeAccessIssue]
        raise
    if planned.complete:
        planned.reduce()


def _conclude(planned: Any) -> None:
    from alps.report.collect import collect
    from alps.report.table import print_table, write_table

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


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turns an exception into one sentence and exit code 1."""
    try:
        yield
    except Exception as error:
        print(f"error: {name}: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _sentence(error: BaseException) -> str:
    from alps.results import RunFailed

    text = " ".join(str(error).split())
    return text if isinstance(error, RunFailed | ValueError) else f"{type(error).__name__}: {text}"


def _log_plainly() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


if __name__ == "__main__":
    main()
