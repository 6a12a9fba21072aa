"""How long `alps COMMAND --help` takes, in a fresh process for each.

    python benchmarks/help.py

Interleaved: every round asks each command once; medians over rounds, wall and processor time.
"""

import resource
import statistics
import subprocess
import sys
import time

from alps.cli.__main__ import COMMANDS

ROUNDS = 3


def measure(command: str) -> tuple[float, float]:
    """Wall and processor seconds of one `--help`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    arguments = [sys.executable, "-m", "alps.cli", *command.split(), "--help"]
    subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    names = ("", *COMMANDS, "heads show", "heads compare")
    rounds = [{name: measure(name) for name in names} for _ in range(ROUNDS)]
    print("| command | seconds | processor seconds |\n|---|---|---|")
    for name in names:
        wall, cpu = (statistics.median(each[name][i] for each in rounds) for i in (0, 1))
        print(f"| `alps {name} --help`".replace("  ", " ") + f" | {wall:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
