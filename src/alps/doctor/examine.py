"""All checks, section by section."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from alps.doctor.context import Context
from alps.doctor.finding import CHECKS, Finding

SECTIONS = {
    "packages": "Python and packages",
    "machine": "Machine",
    "disk": "Disk",
    "hub": "Hugging Face hub",
    "slurm": "SLURM",
    "fit": "Runs",
}
"""Module of this package -> title of its checks."""


def examine(context: Context) -> Iterator[tuple[str, Finding]]:
    """Section and finding, as they are made; a check that fails is a finding, too."""
    for module, title in SECTIONS.items():
        name = import_module(f"alps.doctor.{module}").__name__
        for check in [check for check in CHECKS if check.__module__ == name]:
            try:
                for finding in check(context):
                    context.findings.append(finding)
                    yield title, finding
            except Exception as error:
                said = " ".join(str(error).split()) or type(error).__name__
                text = f"could not be checked ({type(error).__name__}: {said})"
                finding = Finding(name=check.__name__, state="warning", text=text)
                context.findings.append(finding)
                yield title, finding
