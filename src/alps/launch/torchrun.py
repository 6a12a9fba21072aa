"""torchrun, which writes down that a rank was killed: such a rank has no error of its own.

`python -m alps.launch.torchrun <logs> <arguments of torchrun>`
"""

import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from alps.base.atomic import write_json


def main() -> None:
    """Runs the workers; exit code 1 if one fails."""
    try:
        torchrun(sys.argv[2:])
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            write_json(
                Path(sys.argv[1]) / f"{rank}.error.json",
                {"time": failure.timestamp, "message": f"rank {rank} was killed ({name})",
                 "killed": failure.exitcode != -signal.SIGTERM},
            )  # fmt: skip
        sys.exit(1)


if __name__ == "__main__":
    main()
