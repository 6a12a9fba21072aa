"""What the paper printed, as the files below `experiments` have it."""

import csv
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="session")
def experiments() -> Path:
    return EXPERIMENTS


@pytest.fixture(scope="session")
def read():
    """Rows of a CSV file below `experiments`."""

    def rows(name: str) -> list[dict[str, str]]:
        with (EXPERIMENTS / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return rows


@pytest.fixture(scope="session")
def tables(read) -> dict[str, list[dict[str, str]]]:
    """Table -> its cells, in the paper's order."""
    names = [p.parent.name for p in EXPERIMENTS.glob("table*/paper.csv")]
    return {n: read(f"{n}/paper.csv") for n in sorted(names, key=lambda n: int(n[5:]))}
