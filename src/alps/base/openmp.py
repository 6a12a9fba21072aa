"""How idle OpenMP threads wait: asleep, as spinning ones slow down whatever shares the cores."""

import os

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""A user who has set one of them has decided."""


def wait_asleep() -> None:
    """Sets the wait policy of this process and its children; before torch is imported."""
    if not any(name in os.environ for name in VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
