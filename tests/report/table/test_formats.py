"""Golden small tables in every format."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial

import pytest

from alps.config.method_styles import method_styles
from alps.report.table import layout as table_layout
from alps.report.table.cells import fill_table
from alps.report.table.formats import csv_text, json_text, markdown
from alps.report.table.latex import escaped, latex
from alps.report.table.notes import build_notes
from alps.report.table.paper import PaperNumber
from alps.report.table.provenance import Provenance, provenance
from alps.report.table.terminal import print_filled

build_layout = partial(table_layout.build_layout, styles=method_styles())

COMMAND = "alps train experiment=x"


def printed(row: str, method: str, value: float, ratio: float | None = None) -> PaperNumber:
    return PaperNumber(
        row=row, column="GSM8K", model="llama3_2_1b", data=("mathinstruct",), method=method,
        ratio=ratio, task_model="sft" if method == "alps" else None, task_data=None,
        benchmarks=("gsm8k",), metric="strict_match", value=value,
    )  # fmt: skip


@pytest.fixture
def table(made):
    """Four rows: w/ full, w/o attn (failed), Random (not run) and ALPS of another commit."""
    full, no_attn, random, alps = runs = [
        made.run(m) for m in ("full", "no_attn", "random", "alps")
    ]
    made.finish(full, {"gsm8k": [1.0] * 10 + [0.0] * 30}, qkv_fraction=1.0)
    made.fail(no_attn, "the loss is nan")
    share = {"qkv_fraction": 0.182}
    made.finish(alps, {"gsm8k": [1.0] * 20 + [0.0] * 20}, git_commit="d" * 40, **share)
    assert random
    paper = [
        printed("1B, w/ full", "full", 17.82),
        printed("1B, w/o attn", "no_attn", 23.35),
        printed("1B, Random", "random", 22.82, 0.1),
        printed("1B, ALPS_θ & 10%", "alps", 23.74, 0.1),
    ]
    filled = fill_table(build_layout(runs, paper))
    found = provenance(filled)
    return filled, found, build_notes(filled, found, COMMAND)


def test_markdown(table, made):
    text = markdown("Table", *table)
    interval = r"\d\d\.\d\d–\d\d\.\d\d"
    head, rule, *body = [line for line in text.splitlines() if line.startswith("|")]
    assert head == "|  | Attn% | GSM8K | Δ w/ full |"
    assert rule == "| --- | ---: | ---: | ---: |"
    assert body[0] == "| 1B, w/ full | 100.0 | 25.00 (17.82) | — |"
    assert re.fullmatch(rf"\| 95 % \|  \| {interval} \|  \|", body[1])
    assert body[2] == "| 1B, w/o attn | — | — (23.35) | — |"
    assert body[3] == "| 1B, Random | — | — (22.82) | — |"
    assert body[4] == "| 1B, ALPS_θ & 10% <sup>a</sup> | 18.2 | **50.00** (23.74) | +25.00 |"
    change = r"\+\d+\.\d+ to \+\d+\.\d+, p 0\.002"  # 10 documents, all one way: 2 / 2^10
    assert re.fullmatch(rf"\| 95 % \|  \| {interval} \| {change} \|", body[5])
    below = [line for line in text.splitlines() if line.startswith("- ")]
    key = made.run("no_attn").key
    reason = f"- failed: no_attn, llama3_2_1b, mathinstruct, seed 0: the loss is nan ({key})"
    assert reason in below
    assert "- not run yet (1): random 10%, llama3_2_1b, mathinstruct, seed 0" in below
    assert f"- — is filled by `{COMMAND}`, which does only what is not done" in below
    assert "- in parentheses: the paper's number" in below
    assert any(line.startswith("- a: code: alps 1, commit dddddddddd") for line in below)


def test_csv_has_a_line_for_each_cell_with_every_number_in_full(table):
    filled, found, _ = table
    lines = list(csv.DictReader(io.StringIO(csv_text(filled, found)), strict=True))
    assert len(lines) == 4 * 2
    full, change, *_, alps, last = lines
    assert (full["row"], full["column"], full["value"]) == ("1B, w/ full", "GSM8K", "25.0")
    assert (full["paper"], full["model"], full["method"]) == ("17.82", "llama3_2_1b", "full")
    assert (full["data"], full["benchmarks"], full["num_seeds"]) == ("mathinstruct", "gsm8k", "1")
    assert change["value"] == change["from_full"] == ""
    assert (alps["from_full"], alps["best"], alps["marks"]) == ("25.0", "true", "a")
    assert (alps["qkv_share_low"], alps["qkv_share_high"]) == ("0.182", "0.182")
    assert float(alps["from_full_p_mcnemar"]) == 2 / 2**10
    assert float(alps["from_full_low"]) > 0 and alps["ratio"] == "0.1"
    assert alps["from_random"] == "" and last["column"] == "Δ w/ full"
    failed = lines[2]
    assert failed["value"] == "" and failed["missing"].endswith(": failed")


def test_json_has_the_same_numbers_and_the_runs_behind_them(table, made):
    filled, found, notes = table
    plain = json.loads(json_text("x", COMMAND, filled, found, notes))
    lines = csv.DictReader(io.StringIO(csv_text(filled, found)))
    for record, line in zip(plain["cells"], lines, strict=True):
        assert ("" if record["value"] is None else str(record["value"])) == line["value"]
    assert plain["command"] == COMMAND
    assert {g["trouble"] for g in plain["missing"]} == {"failed", "missing"}
    run = plain["runs"][made.run("alps").key]
    assert run["git_commit"] == "d" * 40 and run["data_hash"] == "mathinstruct-hash"


def test_latex_has_booktabs_and_a_line_for_each_row(table):
    text = latex("A & B", "x", *table)
    begin, end = text.index(r"\toprule"), text.index(r"\bottomrule")
    lines = [x for x in text[begin:end].splitlines() if x.endswith(r"\\")]
    assert len(lines) == 1 + 4 + 2
    assert all(line.replace(r"\&", "").count("&") == 3 for line in lines)
    alps = next(line for line in lines if "ALPS" in line)
    assert alps.startswith(r"1B, ALPS\_$\theta$ \& 10\%\textsuperscript{a} & 18.2 & \textbf{50.00}")
    assert r"{\scriptsize (23.74)}" in alps
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"\caption{A \& B}" in text and "---" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert any("the loss is nan" in line for line in comments)


@pytest.mark.latex
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(table, tmp_path):
    filled, *rest = table
    first, *others = filled.layout.columns
    columns = (replace(first, label="held_out loss (math & 50%)"), *others)
    filled = replace(filled, layout=replace(filled.layout, columns=columns))
    text = latex("100 % of #1 & _all_ {é→“x”}", "x", filled, *rest)
    assert r" & \shortstack[r]{held\_out loss\\(math \& 50\%)} & " in text
    (tmp_path / "table.tex").write_text(text)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\n"
        "\\begin{document}\\input{table.tex}\\end{document}\n"
    )
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50%_a&b", r"50\%\_a\&b"), ("—±", r"---$\pm$"), ("日", "?"), ("\\", r"\textbackslash{}")],
)
def test_text_is_escaped(text, expected):
    assert escaped(text) == expected


def test_the_terminal_shows_all_of_it(table, capsys):
    print_filled("Table [1]", *table)
    shown = capsys.readouterr().out
    for text in ("Table [1]", "1B, ALPS_θ & 10% [a]", "50.00 (23.74)", "the loss is nan", COMMAND):
        assert text in shown


def test_significance_and_missing_seeds_are_marked_and_explained(made):
    runs = [made.run(m, seed=s) for m in ("random", "alps") for s in (0, 1)]
    for run in runs[:3]:
        right = 5 if run.method.name == "random" else 30
        made.finish(run, {"gsm8k": [1.0] * right + [0.0] * (40 - right)})
    filled = fill_table(build_layout(runs, []))
    found = provenance(filled)
    text = markdown("Table", filled, found, build_notes(filled, found, COMMAND))
    assert "| llama3_2_1b, ALPS, 10% | — | **75.00**†‡ |" in text
    assert "| llama3_2_1b, Random, 10% | — | 12.50 ±0.00 |" in text
    assert "- † this model and that of Random differ on these documents" in text
    assert "with one seed each, that is no finding about the methods" in text and "\\*" not in text
    assert "- ‡ only of those seeds that are there" in text
    compared = (
        "- compared with Random over the seeds that both have: llama3_2_1b, ALPS, 10% (seed 0)"
    )
    assert compared in text


def test_a_change_over_fewer_seeds_than_the_row_has_is_marked(made):
    runs = [made.run(m, seed=s) for m in ("full", "alps") for s in (0, 1)]
    for run in (runs[0], *runs[2:]):
        made.finish(run, {"gsm8k": [1.0] * (10 + 10 * run.seed) + [0.0] * 20})
    filled = fill_table(build_layout(runs, []))
    found = provenance(filled)
    notes = build_notes(filled, found, COMMAND)
    text = markdown("Table", filled, found, notes)
    (line,) = [line for line in text.splitlines() if line.startswith("| llama3_2_1b, ALPS")]
    share, score, change = line.split(" | ")[1:]
    assert (share, change) == ("—", "+0.00‡ |") and "‡" not in score
    rows = "compared with w/ full over the seeds that both have: llama3_2_1b, ALPS, 10% (seed 0)"
    assert rows in notes.reading


def test_a_base_model_that_was_not_examined_names_its_own_command(made):
    run = made.run()
    made.finish(run, {"gsm8k": [1.0, 0.0]})
    base = PaperNumber(**{**vars(printed("1B, vanilla", "base", 1.0)), "data": ()})
    filled = fill_table(build_layout([run], [base, printed("1B, w/ full", "full", 2.0)]))
    notes = build_notes(filled, provenance(filled), COMMAND)
    (gap,) = notes.gaps
    assert "`alps evaluate -m experiment=x data=mathinstruct`" in gap


def test_the_seed_of_a_model_as_it_is_is_not_one_of_the_table(made):
    runs = [made.run("full", seed=s) for s in (3, 4)]
    made.finish_base(runs[0], {"gsm8k": [1.0, 0.0]})
    alone = " ".join(
        build_notes(fill_table(build_layout(runs, [], base=True)), Provenance(), "x").reading
    )
    assert "seed" not in alone
    for run in runs:
        made.finish(run, {"gsm8k": [1.0, 0.0, float(run.seed == 3)]})
    notes = build_notes(fill_table(build_layout(runs, [], base=True)), Provenance(), "x")
    assert "mean ± standard deviation over seeds 3, 4" in notes.reading
