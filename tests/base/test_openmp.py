"""Idle OpenMP threads spin briefly, unless the user decided otherwise."""

import os
import subprocess
import sys

import pytest

from alps.base.openmp import VARIABLES, spin_briefly

COMMAND = """
import os, sys
from alps.cli.__main__ import main
sys.argv = ["alps", "runs"]
assert "torch" not in sys.modules
main()
assert os.environ["GOMP_SPINCOUNT"] == "300"
"""


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def test_idle_threads_spin_briefly():
    spin_briefly()
    assert {n: os.environ[n] for n in VARIABLES if n in os.environ} == {"GOMP_SPINCOUNT": "300"}


@pytest.mark.parametrize("name", VARIABLES)
def test_the_users_own_variable_wins(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    spin_briefly()
    assert {n: os.environ[n] for n in VARIABLES if n in os.environ} == {name: "7"}


def test_every_command_sets_it_before_torch_is_imported():
    """Ranks and jobs inherit it from the command."""
    assert subprocess.run([sys.executable, "-c", COMMAND]).returncode == 0
