"""The import law of the layout, checked on the code itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alps

PACKAGE = Path(alps.__file__).parent
ROWS = (
    "plain", "atomic", "identity", "families", "infrastructure", "settings", "heads", "head_pair",
    "scores", "results", "run_folder", "models", "cost", "data", "localization", "methods",
    "training", "embedding", "evals", "preflight", "prefetch", "places", "execute", "retention",
    "launch", "plan", "report", "composing", "overrides", "grids", "complaints", "config",
    "callback", "cli_heads", "cli_data", "cli_embed", "cli_plan", "cli_report",
    "cli_train", "cli",
)  # fmt: skip
"""Top to bottom; a package imports only from rows above its own."""
BOUNDARY = ("callback.py", "cli.py", "complaints.py", "composing.py", "config.py", "grids.py")
BOUNDARY += ("cli_train.py", "overrides.py")


def test_every_module_has_a_row():
    found = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir()}
    assert found - {"__init__", "__pycache__", "conf", "py.typed"} == set(ROWS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_run_upwards(path: Path):
    own = row_of(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("alps."):
            other = name.split(".")[1]
            if other != own:
                assert ROWS.index(other) < ROWS.index(own), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_hydra_stays_at_the_boundary(path: Path):
    foreign = {n.split(".")[0] for n in imports(path)} & {"hydra", "omegaconf"}
    assert not foreign or path.name in BOUNDARY


@pytest.mark.parametrize(
    "modules",
    [
        "alps.atomic, alps.infrastructure, alps.settings, alps.results, alps.run_folder",
        "alps.report.table, alps.report.collect, alps.report.listing",
        "alps.config, alps.preflight, alps.execute, alps.launch.ranks, alps.methods.scored",
        "alps.data.table, alps.data.files, alps.data.hub_data, alps.cli_data, alps.cli_embed",
        "alps.data.jsonl, alps.data.mini, alps.evals.mini_tasks, alps.evals.held_out, alps.cli",
        "alps.evals.harness, alps.evals.ifeval, alps.evals.mmlu, alps.evals.evalplus_benchmark",
        "alps.evals.evaluate, alps.evals.examined, alps.evals.statistics, alps.report.evaluated",
        "alps.cost.shape, alps.cost.flops, alps.cost.memory, alps.cli_plan, alps.plan.assumed",
        "alps.plan.overview, alps.plan.view, alps.plan.stages, alps.plan.cost, alps.plan.disk",
        "alps.embedding.request, alps.embedding.measures, alps.report.embedding",
        "alps.report.heat_map, alps.report.head_summary, alps.report.overlap",
        "alps.report.overlap_view, alps.report.score_scale, alps.cli_heads, alps.places",
        "alps.scores, alps.scores.pad, alps.localization.request",
        "alps.report.figures, alps.report.cells, alps.report.provenance, alps.report.table_notes",
        "alps.report.written, alps.report.latex, alps.report.on_terminal, alps.cli_report",
    ],
)
def test_torch_is_not_imported(modules: str):
    heavy = "{'torch', 'lm_eval', 'evalplus'} & set(sys.modules)"
    code = f"import sys, {modules}; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_names_say_what_a_file_is_for(path: Path):
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc")
    assert path.name == "__init__.py" or ast.get_docstring(ast.parse(path.read_text()))


def row_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Everything a module imports when it runs; imports for types only don't count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            prefix = node.module
            names |= {f"{prefix}.{a.name}" if prefix == "alps" else prefix for a in node.names}
    return names
