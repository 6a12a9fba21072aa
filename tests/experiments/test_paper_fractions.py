"""Which printed scores can be k of the benchmark's documents, and how many would be by chance."""

import re
from collections import Counter
from decimal import Decimal

import pytest
import yaml

from alps.config.build import conf_dir

SIZES = {
    "gpqa": 448, "gsm8k": 1319, "math": 5000, "humaneval": 164, "humaneval_plus": 164,
    "mbpp": 378, "mbpp_plus": 378, "arc_challenge": 1165,
}  # fmt: skip
"""ARC: the questions with four choices, as Meta asks them. IFEval and MMLU are means of accuracies
with several denominators: every number of two digits can be one."""
ROWS = {"full": "w/ full, w/o attn, Random", "no_attn": "w/ full, w/o attn, Random",
        "random": "w/ full, w/o attn, Random", "alps": "ALPS", "layer_consistent": "LC, LoRA",
        "lora": "LC, LoRA"}  # fmt: skip
ABLATIONS = ("table2", "table3", "table10")


def hundredths(k: int, size: int) -> tuple[int, int]:
    """k of size in hundredths of a percent: rounded half up, and cut."""
    return (2 * k * 10000 + size) // (2 * size), k * 10000 // size


def fitting(printed: str, size: int) -> tuple[str, str]:
    """The k whose share reads like that: rounded, and cut; empty if there is none."""
    wanted = int(Decimal(printed) * 100)
    near = int(Decimal(printed) * size / 100)
    ks = range(max(0, near - 1), min(size, near + 2) + 1)
    found = [[str(k) for k in ks if hundredths(k, size)[i] == wanted] for i in (0, 1)]
    assert all(len(f) <= 1 for f in found)
    return tuple(f[0] if f else "" for f in found)


@pytest.fixture(scope="module")
def scores(tables):
    """Every score once, where the paper prints it first."""
    seen = {}
    told = ("model", "data", "method", "ratio", "task_model", "benchmark", "value")
    for table, cells in tables.items():
        for cell in cells:
            measured = cell["metric"] not in ("mean", "change", "num_fewshot")
            if measured and cell["benchmark"] in SIZES and cell["method"] != "base":
                seen.setdefault(tuple(cell[k] for k in told), (table, cell))
    return list(seen.values())


def share_by_chance(size: int) -> float:
    """Of all numbers with two digits, those that can be k/size."""
    return len({hundredths(k, size)[0] for k in range(size + 1)}) / 10001


def test_fitting_finds_k():
    assert fitting("17.82", 1319) == ("235", "")  # 17.8165...
    assert fitting("40.24", 164) == ("66", "66") and fitting("41.51", 164) == ("", "")
    assert fitting("0.61", 164) == ("1", "") and fitting("0.60", 164) == ("", "1")
    assert fitting("100", 164) == ("164", "164") and fitting("0.00", 164) == ("0", "0")
    assert fitting("12.35", 5000) == ("", "")
    assert share_by_chance(5000) == pytest.approx(0.5, abs=1e-3)


def test_the_list_of_fractions_is_what_the_scores_give(scores, read):
    found = []
    for table, cell in scores:
        size = SIZES[cell["benchmark"]]
        place = (table, cell["row"], cell["column"], cell["printed"], str(size))
        found.append((*place, *fitting(cell["printed"], size)))
    listed = [tuple(r.values()) for r in read("fractions.csv")]
    assert listed == found


def test_the_sizes_are_those_of_conf():
    for name, size in SIZES.items():
        told = yaml.safe_load((conf_dir() / f"evals/benchmark/{name}.yaml").read_text())
        if name != "arc_challenge" and "splits" in told:
            assert told["splits"]["test"]["num_rows"] == size


def summary(scores) -> dict[tuple[str, str], str]:
    """(rows, column) -> `fitting/printed (by chance)`, rounded numbers only."""
    fits, printed, chance = Counter(), Counter(), Counter()
    for table, cell in scores:
        rows = "Tables 2, 3, 10" if table in ABLATIONS else ROWS[cell["method"]]
        code = cell["benchmark"] in ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus")
        place = rows, "code" if code else cell["column"]
        size = SIZES[cell["benchmark"]]
        printed[place] += 1
        fits[place] += bool(fitting(cell["printed"], size)[0])
        chance[place] += share_by_chance(size)
    return {p: f"{fits[p]}/{n} ({chance[p]:.1f})" for p, n in printed.items()}


def test_the_page_has_the_summary(scores, experiments):
    page = (experiments / "README.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| fits |"))
    columns = [c.strip() for c in header.strip("|").split("|")][1:]
    found = summary(scores)
    for rows in {r for r, _ in found}:
        cells = " | ".join(found.get((rows, c), "—") for c in columns)
        assert re.search(rf"^\| {re.escape(f'{rows} | {cells}')} \|$", page, re.M), (rows, cells)
    assert {c for _, c in found} == set(columns)
