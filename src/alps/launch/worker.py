"""One rank: `python -m alps.launch.worker <folder> [examine]`, started by torchrun."""

import logging
import os
import sys
import time
import traceback
from functools import cache
from pathlib import Path

from alps.base.atomic import write_json
from alps.launch.ranks import die_with_parent
from alps.runs.folder import RunFolder
from alps.runs.result import MicroBatchTooLarge


def main() -> None:
    """Trains or evaluates the folder's run; writes an error to `ranks/<rank>.error.json`."""
    die_with_parent()
    if os.environ.get("RANK", "0") == "0":
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    folder = RunFolder(Path(sys.argv[1]))
    try:
        if sys.argv[2:] == ["examine"]:
            evaluate_benchmarks(folder)
        else:
            train(folder)
        leave_process_group()
    except Exception as error:
        traceback.print_exc()
        message = str(error) or type(error).__name__
        rank = os.environ.get("RANK", "0")
        write_json(
            folder.path / "ranks" / f"{rank}.error.json",
            {
                "time": time.time(),
                "message": message,
                "again": isinstance(error, MicroBatchTooLarge),
            },
        )
        sys.exit(1)


def train(folder: RunFolder) -> None:
    """Trains the run on this rank."""
    from alps.evals.callback import EvaluationCallback
    from alps.training.fit import fit

    run = folder.read_run()
    assert run.folder == folder.path, f"{folder.path} is not the folder of {run.key}"
    fit(run, [EvaluationCallback(run)])


def evaluate_benchmarks(folder: RunFolder) -> None:
    """Evaluates the benchmarks of `examine.yaml` on this rank."""
    import torch
    import torch.distributed as dist

    from alps.evals.evaluate import evaluate
    from alps.evals.run_models import base_context, trained_context
    from alps.runs.completion import evaluation_folders
    from alps.training.prediction import uses_gpu
    from alps.training.strategies import RANK_TIMEOUT

    run = RunFolder(folder.path).read_run("examine.yaml")
    if uses_gpu(run):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if uses_gpu(run) else "gloo", timeout=RANK_TIMEOUT)
    trained = folder.path != run.base_folder
    context = cache(lambda: trained_context(run) if trained else base_context(run))
    for place in evaluation_folders(run, trained):
        evaluate(place.evals, place.folder, place.weights, context)


def leave_process_group() -> None:
    """Ends the process group's threads, which would abort a finished rank at exit."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
