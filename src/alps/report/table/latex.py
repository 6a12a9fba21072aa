"""A filled table as LaTeX, to be pasted into a paper; it needs booktabs and graphicx."""

from __future__ import annotations

from alps.report.table.cell_text import SHARE, CellText, cell_text, share_text
from alps.report.table.cells import FilledTable
from alps.report.table.formats import INTERVAL
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
"""What must not stand in LaTeX text as it is."""

UNKNOWN = "?"
PREAMBLE = "% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n"


def latex(title: str, label: str, filled: FilledTable, found: Provenance, notes: Notes) -> str:
    r"""A `table` environment as wide as the text.

    Args:
        title: Caption.
        label: For `\ref`, behind `tab:`.
        filled: The table.
        found: Where its numbers come from.
        notes: Sentences below it; what is missing becomes a comment.
    """
    columns = filled.layout.columns
    heads = " & ".join(["", escaped(SHARE), *(_head(c.label) for c in columns)])
    body = "\n".join(_body(filled, found))
    below = [*notes.reading, *(f"[{mark}] {text}" for mark, text in notes.marks), *notes.facts]
    comments = "".join(f"% {' '.join(text.split())}\n" for text in notes.gaps)
    return (
        f"{PREAMBLE}{comments}\\begin{{table}}[t]\n\\centering\n\\caption{{{escaped(title)}}}\n"
        f"\\label{{tab:{label}}}\n\\resizebox{{\\linewidth}}{{!}}{{%\n"
        f"\\begin{{tabular}}{{l{'r' * (1 + len(columns))}}}\n\\toprule\n{heads} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}}}\n\n\\smallskip\n"
        f"\\parbox{{\\linewidth}}{{\\footnotesize {'; '.join(map(escaped, below))}.}}\n"
        "\\end{table}\n"
    )


def escaped(text: str) -> str:
    """Text as LaTeX shows it; a character that pdfLaTeX's own fonts lack is a question mark."""
    return "".join(SPECIAL.get(c, c if c.isascii() else UNKNOWN) for c in text)


def _head(label: str) -> str:
    """A column's label; what stands in parentheses at its end in a line of its own."""
    name, bracket, told = label.partition(" (")
    if not bracket:
        return escaped(label)
    return f"\\shortstack[r]{{{escaped(name)}\\\\({escaped(told)}}}"


def _body(filled: FilledTable, found: Provenance) -> list[str]:
    lines: list[str] = []
    block = None
    for i, (row, cells) in enumerate(filled.lines()):
        if block is not None and row.block != block:
            lines.append("\\midrule")
        block = row.block
        texts = [cell_text(c, k) for c, k in zip(cells, filled.layout.columns, strict=True)]
        mark = f"\\textsuperscript{{{found.marks[i]}}}" if i in found.marks else ""
        share = escaped(share_text(filled.shares[i]))
        lines.append(" & ".join([escaped(row.label) + mark, share, *map(_cell, texts)]) + r" \\")
        if any(text.interval for text in texts):
            small = [f"{{\\scriptsize {escaped(t.interval)}}}" if t.interval else "" for t in texts]
            lines.append(
                " & ".join([f"\\quad{{\\scriptsize {escaped(INTERVAL)}}}", "", *small]) + r" \\"
            )
    return lines


def _cell(text: CellText) -> str:
    value = escaped(text.value)
    value = f"\\textbf{{{value}}}" if text.best else value
    if text.marks:
        value += f"\\textsuperscript{{{escaped(text.marks)}}}"
    if text.std:
        value += f" {{\\scriptsize {escaped(text.std)}}}"
    if text.printed:
        value += f" {{\\scriptsize ({escaped(text.printed)})}}"
    return value
