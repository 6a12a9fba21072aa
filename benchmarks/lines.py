"""Lines of the packages of `alps` by kind: code, imports, docstrings, comments, blank.

python benchmarks/lines.py [COMMIT]
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict

KINDS = ("code", "imports", "docstrings", "comments", "blank")


def git(*arguments: str) -> str:
    """Output of a git command."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def kinds(source: str) -> Counter[str]:
    """Lines of each kind; a line with code and a comment is code."""
    docstrings: set[int] = set()
    imports: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                docstrings.update(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    code: set[int] = set()
    comments: set[int] = set()
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    blank = len(source.splitlines()) - len(code | docstrings | comments)
    return Counter(
        code=len(code - docstrings - imports), imports=len(imports), docstrings=len(docstrings),
        comments=len(comments - code - docstrings), blank=blank,
    )  # fmt: skip


def main(commit: str = "HEAD") -> None:
    """Prints the table of a commit."""
    packages: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in git("ls-tree", "-r", "--name-only", commit, "src").splitlines():
        if path.endswith(".py"):
            parts = path.split("/")
            package = parts[2] if len(parts) > 3 and parts[1] == "alps" else "(top level)"
            packages[package] += kinds(git("show", f"{commit}:{path}"))
            packages[package]["files"] += 1
    print(f"| package | files | {' | '.join(KINDS)} | all |\n|{'---|' * (len(KINDS) + 3)}")
    rows = [*sorted(packages.items()), ("all", sum(packages.values(), Counter()))]
    for package, count in rows:
        numbers = [count["files"], *(count[k] for k in KINDS), sum(count[k] for k in KINDS)]
        print(f"| {package} | {' | '.join(map(str, numbers))} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
