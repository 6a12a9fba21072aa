"""How long idle OpenMP threads spin: briefly, as spinning slows down whatever shares the cores."""

import os

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""A user who has set one of them has decided."""

SPINCOUNT = "300"
"""The fastest beside another torch process of those in benchmarks/shared_cores.py."""


def spin_briefly() -> None:
    """Sets how long idle threads of this process and its children spin; before torch is imported.

    GNU's library alone reads it (torch's wheels have that one); its own default spins for
    milliseconds.
    """
    if not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPINCOUNT
