"""A run of the device queue, which gets its request as JSON on standard input."""

import json
import logging
import sys

from alps.base.serialization import from_dict
from alps.settings.run import Run


def main() -> None:
    """Executes the run; its failure is in `status.json`, and its traceback in the log."""
    request = json.load(sys.stdin)
    run = from_dict(request["run"], Run, check=False)
    line = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, datefmt="%H:%M:%S")
    from alps.execute import execute
    from alps.launch.ranks import fit_on_devices

    try:
        execute(run, fit_on_devices, request["needs"])
    except Exception:
        logging.exception("the run failed")
        sys.exit(1)


if __name__ == "__main__":
    main()
