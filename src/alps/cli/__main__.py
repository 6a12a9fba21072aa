"""The command line: `alps train|evaluate|runs|export`. Heavy imports wait until they are needed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alps.cli.train import debugs, failure, train

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
    from alps.cli.data import data, prefetch
    from alps.cli.embed import embed
    from alps.cli.heads import heads, localize
    from alps.cli.plan import plan
    from alps.cli.report import report

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
        from alps.base.serialization import did_you_mean

        print(
            f"error: there is no command '{command}'{did_you_mean(command, commands)}",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        commands[command](rest)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debugs(rest):
            raise
        print(f"error: {failure(error)} (debug=true says where)", file=sys.stderr)
        sys.exit(1)


def evaluate(arguments: Sequence[str]) -> None:
    """Benchmarks for a trained run (`run=KEY`), or for base models: one, or with -m a grid's."""
    from alps.config import build as config
    from alps.config.compose import sentences
    from alps.pipeline.preflight import check_files, check_model

    _log_plainly()
    settings = [a for a in arguments if a not in ("-m", "--multirun")]
    try:
        whole_grid = len(settings) < len(arguments)
        examined = _bases(settings) if whole_grid else [_examined(settings)]
        for step in (check_files, check_model):
            for run, trained in examined:
                step(run, trains=trained)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(sentences(error)))
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
    from alps.evals.run_models import evaluate_base
    from alps.execute import execute
    from alps.launch.ranks import evaluate_on_devices, fit_on_devices
    from alps.report.runs.evaluations import print_evaluations
    from alps.runs.completion import evaluation_folders

    with _one_sentence(run.key if trained else run.base_key):
        evaluate_on_devices(run, trained)
        if trained:
            execute(run, fit_on_devices)
        else:
            evaluate_base(run)
    print_evaluations(evaluation_folders(run, trained))


def _bases(arguments: Sequence[str]) -> list[tuple[Any, bool]]:
    """A run for each base model, data and set of a grid; none of them is to be trained."""
    from alps.base.hashing import digest
    from alps.base.serialization import to_dict
    from alps.config.build import runs_of

    asked = {digest([run.base_data_key, to_dict(run.evals)]): run for run in runs_of(arguments)}
    return [(run, False) for run in asked.values()]


def _examined(arguments: Sequence[str]) -> tuple[Any, bool]:
    """The run whose model is examined, and whether that is the trained one."""
    from dataclasses import replace

    from alps.base.serialization import SettingsError, from_dict
    from alps.config import build as config
    from alps.runs.completion import is_finished
    from alps.runs.folder import find_run
    from alps.settings.infrastructure import Trainer

    composed = config.compose_config(list(arguments), "evaluate")
    plain = config.plain_config(composed)
    if plain.get("run") is None:
        return config.build(composed), False
    if not plain["run"]:
        raise ValueError("run= names no run; `alps runs` lists them")
    _refuse_settled(arguments)
    trainer = from_dict(plain["trainer"], Trainer, "trainer")
    folder = find_run(Path(str(plain.get("output_dir"))), str(plain["run"]))
    run = folder.read_run()
    if outdated := folder.outdated_reason(run):
        raise ValueError(outdated)
    problems: list[str] = []
    evals = config.build_evals(plain["evals"], run.data.task, problems)
    if evals is None:
        raise SettingsError(problems)
    run = replace(run, evals=evals, trainer=trainer)
    if not is_finished(run, folder) and (lacking := folder.missing_weights_reason()):
        raise ValueError(lacking)
    return run, True


def _refuse_settled(arguments: Sequence[str]) -> None:
    """Refuses settings that would change nothing, since the run has its own."""
    open_ones = ("run", "output_dir", "evals", "trainer", "debug")
    settled = [a for a in arguments if re.split(r"[.@/=]", a.lstrip("+~"))[0] not in open_ones]
    if settled:
        raise ValueError(
            f"{', '.join(settled)}: the run has settings of its own; beside run=KEY only evals, "
            "trainer and output_dir can be set"
        )


def runs(arguments: Sequence[str]) -> None:
    """Lists runs with settings and state."""
    from alps.config.compose import sentences
    from alps.config.errors import refuse
    from alps.report.runs.listing import print_runs

    settings = dict(a.split("=", 1) for a in arguments if a.startswith("output_dir="))
    filters = [a for a in arguments if not a.startswith("output_dir=")]
    try:
        print_runs(Path(settings.get("output_dir", "outputs")), filters)
    except (ValueError, OSError) as error:
        sys.exit(refuse(sentences(error)))


def export(arguments: Sequence[str]) -> None:
    """Writes a trained run as a folder for other programs: plain model, rows or PEFT adapter."""
    from alps.base.atomic import can_hold_files
    from alps.base.serialization import did_you_mean
    from alps.config.compose import sentences
    from alps.config.errors import refuse
    from alps.models.export import FORMATS, export_run, rank_warnings
    from alps.runs.folder import find_run

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
        if lacking := folder.missing_weights_reason():
            raise ValueError(lacking)
        if to.exists():
            raise ValueError(f"{to} exists already; nothing is overwritten: choose another folder")
        if not can_hold_files(to):
            raise ValueError(f"to={to} cannot be written to: name another folder")
    except (ValueError, OSError) as error:
        sys.exit(refuse(sentences(error)))
    key = folder.path.name
    with _one_sentence(key):
        from alps.training.restore import restore

        try:
            ranks = export_run(run, given["format"], to, restore, folder)
        except ValueError as error:
            sys.exit(refuse([f"{key}: {failure(error)}"]))
    largest = f"; largest rank {max(ranks.values())}" if ranks else ""
    print(f"{key} is in {to}{largest}")
    for warning in rank_warnings(ranks):
        print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turns an exception into one sentence and exit code 1."""
    try:
        yield
    except Exception as error:
        print(f"error: {name}: {failure(error)}", file=sys.stderr)
        sys.exit(1)


def _log_plainly() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


if __name__ == "__main__":
    main()
