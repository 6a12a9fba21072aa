"""Writes a page as one HTML file that needs no network and loads nothing from elsewhere.

All text reaches the page as JSON in which `<`, `>` and `&` are escaped, and the scripts put it
there with `textContent`. The content security policy runs only the scripts whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from alps.base.atomic import write_text

SCRIPTS = (
    "dom", "data", "address", "filter", "table", "plot", "curves", "tradeoff", "parallel", "heads",
    "overlap", "differences", "details", "main",
)  # fmt: skip
"""Files in `script/`, in the order in which they run."""

ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(content: Mapping[str, Any], path: Path) -> None:
    """Writes the page atomically."""
    write_text(path, page_text(content))


def page_text(content: Mapping[str, Any]) -> str:
    """The page as HTML."""
    from plotly.offline import get_plotlyjs

    own, plotly = _script(), get_plotlyjs()
    # plotly compiles its WebGL programs with eval; texts of runs never get there
    policy = (
        f"default-src 'none'; script-src {_hash(own)} {_hash(plotly)} 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(str(content["title"])),
        "policy": policy,
        "style": _read("page.css"),
        "data": json_text(content),
        "plotly": plotly,
        "script": own,
    }
    text = _read("page.html")
    pieces = text.split("{{")
    found = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        found += [parts[name], rest]
    return "".join(found)


def json_text(content: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    # a lone surrogate, as in a truncated answer, has no UTF-8
    return text.encode("utf-8", "replace").decode("utf-8")


def _script() -> str:
    """The page's own scripts, as one function."""
    texts = [_read("script", f"{name}.js") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(texts) + "\n})();\n"


def _read(*names: str) -> str:
    return files("alps.report.page").joinpath(*names).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
