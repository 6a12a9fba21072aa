"""The import law of the layout, checked on the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import alps

PACKAGE = Path(alps.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "base", "settings", "heads", "scores", "runs", "tracking", "models", "cost", "data",
    "localization", "methods", "embedding", "training", "evals", "report", "pipeline", "execute",
    "launch", "plan", "config", "doctor", "cli",
)  # fmt: skip
"""A package imports only from those before it."""

LAYERS = {
    "evals": {
        "sandbox": (),
        "engine": ("context",),
        "harness": ("context", "engine", "samples", "statistics"),
        "evalplus": ("context", "engine", "sandbox", "samples", "statistics"),
        "mini": ("context", "harness", "evalplus", "sandbox", "samples", "statistics"),
    },
    "report": {
        "table": ("outcomes", "run_kind", "style", "text_tables"),
        "figure": ("outcomes", "run_kind", "style", "text_tables", "table", "heads"),
        "heads": ("style", "text_tables", "score_scale"),
        "runs": ("run_kind", "style", "text_tables"),
        "page": ("outcomes", "style", "runs"),
    },
}
"""Package -> part -> what else of the package that part imports."""

NO_TORCH = ("settings", "runs", "cost", "plan", "report", "config")
HYDRA = ("config", "cli/train.py")
LARGEST = 20
"""Python files in a folder."""

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "given", "whole", "saved", "line"}
VAGUE |= {"state", "written", "remember"}


def modules() -> dict[str, Path]:
    """Name of each module -> its file."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["alps", *path.relative_to(PACKAGE).with_suffix("").parts]
        names[".".join(p for p in parts if p != "__init__")] = path
    return names


MODULES = modules()


def imports(name: str) -> set[str]:
    """Everything a module imports when it runs, inside functions too; types alone don't count."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full[n] if full[n] in MODULES else node.module for n in full}
    return found


IMPORTS = {name: imports(name) for name in MODULES}


def crossings(package: str = "") -> Iterator[tuple[str, str, str]]:
    """(module, its part, part it imports) where the two differ, of `alps` or a package of it."""
    prefix = f"alps.{package}." if package else "alps."
    for name, found in IMPORTS.items():
        for other in found:
            if name.startswith(prefix) and other.startswith(prefix):
                own, theirs = (n.removeprefix(prefix).split(".")[0] for n in (name, other))
                if own != theirs:
                    yield name, own, theirs


def test_every_package_has_a_place():
    found = {p.stem for p in PACKAGE.iterdir() if p.name not in ("__pycache__", "py.typed", "conf")}
    assert found == {*ORDER, "__init__"}


def test_imports_run_one_way():
    wrong = [f"{name} imports {b}" for name, a, b in crossings() if ORDER.index(b) > ORDER.index(a)]
    assert not wrong


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_one_way_inside(package: str):
    layers = LAYERS[package]
    wrong = [
        f"{name} imports {b}"
        for name, a, b in crossings(package)
        if a in layers and b not in layers[a]
    ]
    assert not wrong


def test_no_module_imports_itself_by_a_detour():
    graph = {name: found & MODULES.keys() - {"alps"} for name, found in IMPORTS.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_the_sandbox_imports_only_the_standard_library():
    own = {n for n in MODULES if n.startswith("alps.evals.sandbox")}
    others = {o.split(".")[0] for n in own for o in IMPORTS[n] - own}
    others -= {"sandbox_values", "sandbox_isolation"}  # its own files, as they lie beside it inside
    assert others <= sys.stdlib_module_names


def test_hydra_stays_at_the_boundary():
    foreign = {n for n, found in IMPORTS.items() if any(hydra(o) for o in found)}
    places = {str(MODULES[n].relative_to(PACKAGE)) for n in foreign}
    assert not [p for p in places if not p.startswith(HYDRA)]


def hydra(module: str) -> bool:
    return module.split(".")[0] in ("hydra", "omegaconf")


def test_what_needs_no_torch_imports_none():
    names = [n for n in MODULES if n.split(".")[1:2] and n.split(".")[1] in NO_TORCH]
    heavy = "{'torch', 'lm_eval', 'evalplus'} & set(sys.modules)"
    code = f"import sys, {', '.join(names)}; print({heavy}); sys.exit(bool({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_folders_can_be_surveyed():
    folders = {path.parent for path in MODULES.values()}
    large = {str(f) for f in folders if len(list(f.glob("*.py"))) > LARGEST}
    assert not large


def test_names_and_docstrings_say_what_a_file_holds():
    for path in MODULES.values():
        assert path.stem not in VAGUE, path
        assert ast.get_docstring(ast.parse(path.read_text())), path


def layout() -> str:
    """README's lines about the packages: the first line of each docstring."""
    lines = []
    for name in ORDER:
        path = PACKAGE / name / "__init__.py"
        shown, path = (
            (f"{name}/", path) if path.exists() else (f"{name}.py", PACKAGE / f"{name}.py")
        )
        text = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        lines.append(f"  {shown:<20} {text}")
    return "\n".join(lines) + "\n"


def law() -> str:
    """CONTRIBUTING's lines about the parts of packages."""
    return "".join(
        f"  - `{package}/{part}` imports {', '.join(f'`{o}`' for o in others) or 'nothing'} of it"
        f"{';' if (package, part) != ('report', 'runs') else '.'}\n"
        for package, layers in LAYERS.items()
        for part, others in layers.items()
    )


PAGES = {
    "README.md": ("src/alps/\n", layout, "experiments/ "),
    "CONTRIBUTING.md": ("Inside `evals` and `report`:\n", law, "  Only `config`"),
}
"""Page -> what stands before the generated lines, the lines, and what stands after them."""


def generated(page: str) -> str:
    """The page with its lines written anew."""
    before, lines, after = PAGES[page]
    head, rest = (ROOT / page).read_text().split(before, 1)
    return head + before + lines() + after + rest.split(after, 1)[1]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_show_the_layout_and_the_law(page: str):
    assert generated(page) == (ROOT / page).read_text()


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(generated(page))
