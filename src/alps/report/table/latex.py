"""A filled table as LaTeX; it needs booktabs and graphicx."""

from __future__ import annotations

from alps.report.table.cell_text import INTERVAL, SHARE, CellText, row_texts
from alps.report.table.cells import FilledTable
from alps.report.table.notes import Notes
from alps.report.table.provenance import Provenance

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "—": "---", "–": "--", "−": "$-$", "±": r"$\pm$", "Δ": r"$\Delta$", "θ": r"$\theta$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}", "×": r"$\times$",
    "·": r"$\cdot$", "’": "'",
    "\n": " ", "\t": " ",
}  # fmt: skip
"""Characters that LaTeX text cannot contain -> their commands."""

UNKNOWN = "?"
PREAMBLE = "% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n"


def latex(title: str, label: str, filled: FilledTable, found: Provenance, notes: Notes) -> str:
    r"""A `table` environment as wide as the text."""
    columns = filled.layout.columns
    headings = " & ".join(["", escaped(SHARE), *(_heading(c.label) for c in columns)])
    body = "\n".join(_body(filled, found))
    below = [*notes.reading, *(f"[{mark}] {text}" for mark, text in notes.marks), *notes.facts]
    comments = "".join(f"% {' '.join(text.split())}\n" for text in notes.gaps)
    return (
        f"{PREAMBLE}{comments}\\begin{{table}}[t]\n\\centering\n\\caption{{{escaped(title)}}}\n"
        f"\\label{{tab:{label}}}\n\\resizebox{{\\linewidth}}{{!}}{{%\n"
        f"\\begin{{tabular}}{{l{'r' * (1 + len(columns))}}}\n\\toprule\n"
        f"{headings} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n\n\\smallskip\n"
        f"\\parbox{{\\linewidth}}{{\\footnotesize {'; '.join(map(escaped, below))}.}}\n"
        "\\end{table}\n"
    )


def escaped(text: str) -> str:
    """Text for LaTeX; characters that pdfLaTeX's default fonts lack become question marks."""
    return "".join(SPECIAL.get(c, c if c.isascii() else UNKNOWN) for c in text)


def _heading(label: str) -> str:
    """A column's label, with a suffix in parentheses on a line of its own."""
    name, bracket, rest = label.partition(" (")
    if not bracket:
        return escaped(label)
    return f"\\shortstack[r]{{{escaped(name)}\\\\({escaped(rest)}}}"


def _body(filled: FilledTable, found: Provenance) -> list[str]:
    lines: list[str] = []
    for row in row_texts(filled, found):
        if row.starts_block:
            lines.append("\\midrule")
        letters = f"\\textsuperscript{{{row.letters}}}" if row.letters else ""
        lines.append(
            _line([escaped(row.label) + letters, escaped(row.share), *map(_cell, row.cells)])
        )
        if row.has_intervals:
            small = [_small(cell.interval) if cell.interval else "" for cell in row.cells]
            lines.append(_line([f"\\quad{_small(INTERVAL)}", "", *small]))
    return lines


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _small(text: str) -> str:
    return f"{{\\scriptsize {escaped(text)}}}"


def _cell(text: CellText) -> str:
    value = escaped(text.value)
    value = f"\\textbf{{{value}}}" if text.best else value
    if text.marks:
        value += f"\\textsuperscript{{{escaped(text.marks)}}}"
    if text.std:
        value += f" {_small(text.std)}"
    if text.printed:
        value += f" {_small(f'({text.printed})')}"
    return value
