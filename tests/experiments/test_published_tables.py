"""The published tables are what their own files give."""

from pathlib import Path

import pytest

from alps.cli.report import report

ROOT = Path(__file__).parents[2] / "experiments"
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/runs.json"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_published_table_is_made_again_from_its_documents(name, tmp_path, capsys):
    report([f"from={ROOT / name}", f"to={tmp_path / name}", "figures=false"])
    for file in ("table.md", "results.csv", "runs.json", "documents.csv.gz"):
        assert (tmp_path / name / file).read_bytes() == (ROOT / name / file).read_bytes(), file


def test_there_are_published_tables():
    assert "table3" in FOLDERS
