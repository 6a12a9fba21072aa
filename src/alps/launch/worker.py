"""One rank of a training: `python -m alps.launch.worker <run folder>`, started by torchrun."""

import os
import sys
import time
import traceback
from pathlib import Path

from alps.launch.ranks import die_with_parent
from alps.results import RunFolder, write_json


def main() -> None:
    """Trains the folder's run; an error is left for the parent in `ranks/<rank>.error.json`."""
    die_with_parent()
    folder = RunFolder(Path(sys.argv[1]))
    try:
        run = folder.read_run()
        assert run.folder == folder.path, f"{folder.path} is not the folder of {run.key}"
        from alps.training.fit import fit

        fit(run)
        leave_group()
    except Exception as error:
        traceback.print_exc()
        message = str(error) or type(error).__name__
        rank = os.environ.get("RANK", "0")
        write_json(
            folder.path / "ranks" / f"{rank}.error.json", {"time": time.time(), "message": message}
        )
        sys.exit(1)


def leave_group() -> None:
    """Ends the group's threads; one that outlives the interpreter aborts a rank that is done."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
