"""The paper's numbers agree with each other, with conf and with the lists of what does not."""

import itertools
import re
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

import pytest
import yaml

from alps.config.build import build, compose_config, conf_dir
from alps.evals.evalplus.benchmark import METRIC as PASSED

IDENTITY = ("model", "data", "method", "ratio", "task_model", "task_data", "benchmark", "metric")
RUN = IDENTITY[:6]
CENT = Decimal("0.01")
SIZES = {  # rows, columns; changes are printed for every row but w/ full (and not in Table 2)
    "table1": (18, 9, 15), "table2": (12, 9, 0), "table3": (18, 9, 15), "table4": (12, 4, 9),
    "table5": (15, 3, 0), "table6": (6, 1, 0), "table7": (9, 1, 0), "table10": (10, 6, 0),
    "table11": (6, 1, 0), "table12": (18, 4, 15), "table13": (21, 3, 0), "table14": (27, 8, 0),
}  # fmt: skip
METHODS = {
    "w/ full": "full", "w/full": "full", "w/o attn": "no_attn", "Random": "random",
    "LC": "layer_consistent", "LoRA": "lora", "vanilla": "base", "C.S.": "cosine",
    "Eu.": "euclidean", "KL": "kl", "s^PAD": "alps", "100%": "full", "0%": "no_attn",
}  # fmt: skip
MODELS = {"1B": "llama3_2_1b", "3B": "llama3_2_3b", "8B": "llama3_1_8b"}
COLUMNS = {
    "IFEval": "ifeval", "GPQA": "gpqa", "GSM8K": "gsm8k", "MATH": "math", "HEval": "humaneval",
    "HEval+": "humaneval_plus", "MBPP": "mbpp", "MBPP+": "mbpp_plus", "MMLU": "mmlu",
    "ARC-C": "arc_challenge", "# Samples": "", "Avg. Time Cost (hrs)": "",
}  # fmt: skip
COLUMNS |= {"General": "ifeval gpqa", "Math": "gsm8k math"}
COLUMNS["Code"] = "humaneval humaneval_plus mbpp mbpp_plus"
FIRST, SECOND = "ultrachat mathinstruct magicoder", "alpaca camel_math codealpaca"
TASK_MODELS = {"Readily M": "readily", "10% data": "fewer_data", "attn only (10%)": "fewer_params"}
NO_SCORES = ("table6", "table7", "table11")


def number(cell: dict[str, str]) -> Decimal:
    return Decimal(cell["value"])


def by_row(cells: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    rows = defaultdict(list)
    for cell in cells:
        rows[cell["row"]].append(cell)
    return rows


def averages_off(table: str, cells: list[dict[str, str]]):
    """Averages further from the mean of their row than rounding of all numbers can explain."""
    for row, line in by_row(cells).items():
        parts = [number(c) for c in line if not c["column"].startswith("Avg.")]
        for cell in line:
            if cell["column"] == "Avg.":
                mean = sum(parts) / len(parts)
                if abs(number(cell) - mean) > CENT:
                    yield table, row, "Avg.", cell["value"], f"{mean:.2f}", "mean of the row"


def changes_off(table: str, cells: list[dict[str, str]]):
    """Changes that are not the average less that of w/ full, give or take one digit."""
    average = {c["row"]: number(c) for c in cells if c["column"] == "Avg."}
    full = (
        {c["model"]: average[c["row"]] for c in cells if c["method"] == "full"} if average else {}
    )
    for cell in cells:
        if cell["metric"] == "change":
            change = average[cell["row"]] - full[cell["model"]]
            if abs(number(cell) - change) > CENT:
                place = (table, cell["row"], cell["column"], cell["value"])
                yield *place, f"{change:.2f}", "average less that of w/ full"


def repeats_off(tables):
    """Numbers that differ from what an earlier table printed for the same runs."""
    first: dict[tuple[str, ...], tuple[str, Decimal]] = {}
    for table, cells in tables.items():
        for cell in cells:
            told, value = first.setdefault(tuple(cell[k] for k in IDENTITY), (table, number(cell)))
            if value != number(cell):
                place = (table, cell["row"], cell["column"], cell["value"])
                yield *place, f"{value:.2f}", f"{told} prints another number"


def query_heads_off(claims):
    """What section 4.1 says of every model's groups of query heads, and its configuration."""
    (claim,) = [c for c in claims if c["about"] == "query heads of a key-value pair"]
    for size, name in MODELS.items():
        shape = yaml.safe_load((conf_dir() / f"model/{name}.yaml").read_text())["shape"]
        heads, groups = shape["num_attention_heads"], shape["num_key_value_heads"]
        if heads != groups * int(claim["value"]):
            assert heads % groups == 0
            row = f"Llama-{name[5:-3].replace('_', '.')}-{size}"
            what = f"the model has {heads} query heads and {groups} key-value pairs"
            yield "text", row, claim["about"], claim["value"], str(heads // groups), what


def test_the_list_of_inconsistencies_is_what_the_numbers_give(tables, read):
    found = [i for t, cells in tables.items() for i in averages_off(t, cells)]
    found += [i for t, cells in tables.items() for i in changes_off(t, cells)]
    found += [*repeats_off(tables), *query_heads_off(read("claims.csv"))]
    fields = ("table", "row", "column", "printed", "recomputed", "what")
    listed = [tuple(r[f] for f in fields) for r in read("inconsistencies.csv")]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("table", SIZES)
def test_every_table_is_complete(tables, table):
    cells = tables[table]
    rows, columns, changes = SIZES[table]
    assert len({c["row"] for c in cells}) == rows
    assert len({c["column"] for c in cells if c["metric"] != "change"}) == columns
    assert sum(c["metric"] == "change" for c in cells) == changes
    assert len(cells) == rows * columns + changes


def test_nothing_is_there_twice(tables):
    assert set(tables) == set(SIZES)
    for table, cells in tables.items():
        assert len({(c["row"], c["column"]) for c in cells}) == len(cells), table
        assert len({tuple(c[k] for k in IDENTITY) for c in cells}) == len(cells), table


def test_a_value_is_what_was_printed(tables):
    for table, cells in tables.items():
        for cell in cells:
            assert cell["garbled"] in ("", "sign", "number")
            assert not cell["garbled"] or cell["metric"] == "change"
            if cell["garbled"] == "number":
                assert number(cell) == one(tables["table12"], cell), "readable in the full table"
                continue
            printed = re.search(r"\d+(\.\d+)?", cell["printed"])[0]
            thousands = 1000 if cell["printed"].endswith("k") else 1
            assert abs(number(cell)) == Decimal(printed) * thousands, (table, cell)
            if cell["metric"] == "change" and not cell["garbled"]:
                assert cell["printed"][0] == ("↑" if number(cell) > 0 else "↓"), (table, cell)
            if table not in NO_SCORES:
                assert abs(number(cell)) <= 100


def one(cells, like) -> Decimal:
    (found,) = [c for c in cells if (c["row"], c["column"]) == (like["row"], like["column"])]
    return number(found)


def choices(group: str) -> set[str]:
    return {p.stem for p in (conf_dir() / group).glob("*.yaml")}


def test_every_name_is_a_choice_of_conf(tables):
    groups = {"model": "model", "data": "data", "task_data": "data", "method": "method"}
    groups |= {"task_model": "task_model", "benchmark": "evals/benchmark"}
    known = {field: choices(group) for field, group in groups.items()}
    known["method"].add("base")  # vanilla: the model before any training
    for cell in itertools.chain(*tables.values()):
        for field, names in known.items():
            assert set(cell[field].split()) <= names, cell
        assert cell["metric"], cell


def test_labels_and_names_mean_the_same(tables):
    for cell in itertools.chain(*(c for t, c in tables.items() if t not in ("table6", "table7"))):
        model, *labels = cell["row"].split(", ")
        size = next(s for s in MODELS if s in model)
        assert MODELS[size] == cell["model"]
        method = {METHODS.get(label, "alps" if "ALPS" in label else None) for label in labels}
        share = [Decimal(x[:-1]) / 100 for x in labels if re.fullmatch(r"\d+%", x)]
        if len(labels) == 1 and share and cell["method"] == "alps":
            method = {"alps"}  # Table 3 has nothing but the ratio
        assert cell["method"] in method
        if cell["ratio"]:
            assert Decimal(cell["ratio"]) == (share or [Decimal("0.1")])[0]
        scored = cell["method"] in ("alps", "kl", "euclidean", "cosine")
        assert bool(cell["task_model"]) == scored
        assert bool(cell["ratio"]) == (scored or cell["method"] in ("random", "layer_consistent"))


def test_columns_and_data_are_the_labels(tables):
    short = {"MC": "magicoder", "MI": "mathinstruct", "UC": "ultrachat"}
    for table, cells in tables.items():
        sets = SECOND if table in ("table4", "table12") else FIRST
        for cell in cells:
            column = cell["column"]
            if column in COLUMNS:
                assert cell["benchmark"] == COLUMNS[column], cell
            elif column.startswith("Avg."):
                columns = {c["column"]: None for c in cells if not c["column"].startswith("Avg.")}
                assert cell["benchmark"] == " ".join(COLUMNS[c] for c in columns)
            else:
                assert table == "table7" and column == "# Shots"
            if sets == SECOND:
                first = dict(zip(SECOND.split(), FIRST.split(), strict=True))
                source = [first[d] for d in cell["data"].split()] if cell["task_model"] else []
                assert cell["task_data"] == " ".join(source)
            elif table not in NO_SCORES:
                assert set(cell["data"].split()) <= set(FIRST.split()) and not cell["task_data"]
            if cell["task_model"]:
                told = cell["row"].split(", ")[-1]
                assert cell["task_model"] == TASK_MODELS.get(told, "sft")
            if table == "table14":
                assert cell["data"] == short[cell["row"][3:5]]


def test_scores_stand_under_the_headline_of_their_benchmark(tables):
    headlines = {"ifeval": "mean_accuracy", "mmlu": "macro_accuracy"}  # computed by their classes
    for name in ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus"):
        headlines[name] = PASSED
    for cell in itertools.chain(*(c for t, c in tables.items() if t not in NO_SCORES)):
        if cell["metric"] in ("mean", "change"):
            continue
        name = cell["benchmark"]
        if name not in headlines:
            told = yaml.safe_load((conf_dir() / f"evals/benchmark/{name}.yaml").read_text())
            headlines[name] = next(iter(told["metrics"]))
        assert cell["metric"] == headlines[name], cell


def test_a_task_s_benchmarks_stand_beside_a_task_s_data(tables):
    task = {}
    for name in choices("data") - {"jsonl"}:
        task[name] = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())["task"]
    for table in ("table1", "table2", "table3", "table4", "table10", "table12"):
        for cell in tables[table]:
            asked = set(cell["benchmark"].split())
            wanted = {task[d] for d in cell["data"].split()}
            assert asked <= {b for t in wanted for b in evals(t)}
            assert {t for t in wanted if asked & evals(t)} == wanted
            assert {task[d] for d in cell["task_data"].split()} <= wanted


def evals(task: str) -> set[str]:
    told = yaml.safe_load((conf_dir() / f"evals/{task}.yaml").read_text())["defaults"]
    return {v for d in told for k, v in d.items() if k.startswith("benchmark@")}


def test_more_tests_are_never_passed_by_more_programs(tables):
    scores = {(t, c["row"], c["benchmark"]): number(c) for t, cs in tables.items() for c in cs
              if c["metric"] == PASSED}  # fmt: skip
    pairs = [(v, scores[t, r, f"{b}_plus"]) for (t, r, b), v in scores.items()
             if not b.endswith("_plus")]  # fmt: skip
    assert len(pairs) == 2 * (18 + 12 + 18 + 10 + 27)
    assert all(base >= plus for base, plus in pairs)


def test_shots_and_numbers_of_rows_are_those_of_conf(tables):
    for cell in tables["table7"]:
        path = conf_dir() / f"evals/benchmark/{cell['benchmark']}.yaml"
        assert yaml.safe_load(path.read_text()).get("num_fewshot", 0) == number(cell)
    for cell in tables["table6"]:
        told = yaml.safe_load((conf_dir() / f"data/{cell['data']}.yaml").read_text())
        assert abs(number(cell) / told["num_rows"] - 1) < Decimal("0.04")


def gains(tables) -> tuple[str, str]:
    """Mean gain of ALPS over w/ full, and over the best other row, in points of Table 1."""
    average = defaultdict(dict)
    for cell in tables["table1"]:
        if cell["column"] == "Avg.":
            average[cell["model"]][cell["method"]] = number(cell)
    over = {"full": Decimal(0), "best": Decimal(0)}
    for rows in average.values():
        alps = rows.pop("alps")
        over["full"] += (alps - rows["full"]) / len(average)
        over["best"] += (alps - max(rows.values())) / len(average)
    return tuple(str(g.quantize(CENT, ROUND_HALF_UP)) for g in over.values())


def test_what_the_text_says_in_numbers(tables, read):
    over_full, over_best = gains(tables)
    first = {c["row"].split(",")[0]: c["value"] for c in tables["table1"]
             if c["method"] == "alps" and c["metric"] == "change"}  # fmt: skip
    runs = {tuple(c[k] for k in RUN) for c in tables["table1"] if " " not in c["data"]}
    facts = {
        "gain over w/ full": over_full,
        "gain over the best other row": over_best,
        "gain of 1B": first["Llama-3.2-1B"],
        "gain of 8B": first["Llama-3.1-8B"],
        "models to train for Table 1": str(len(runs)),
        "query heads of a key-value pair": " ".join(
            recomputed for *_, recomputed, _ in query_heads_off(read("claims.csv"))
        ),
    }
    told = read("claims.csv")
    assert {r["about"] for r in told if not r["setting"]} == set(facts)
    for row in told:
        if row["setting"]:
            config = compose_config([row["setting"]])
            build(config)
            for part in row["about"].split("."):
                config = config[int(part) if part.isdigit() else part]
            assert Decimal(str(config)) == Decimal(row["value"]) == Decimal(row["recomputed"])
        else:
            assert facts[row["about"]] == row["recomputed"]


def test_the_readmes_count_the_runs_of_their_tables(tables, experiments):
    for table in set(tables) - {"table6", "table7"}:
        page = (experiments / table / "README.md").read_text()
        runs = {tuple(c[k] for k in RUN) for c in tables[table] if c["method"] != "base"}
        single = {r for r in runs if r[1] and " " not in r[1]}
        # Tables 5, 11 and 13 don't say which data: one run for each of the three.
        counted = len(single) or 3 * len(runs)
        assert f"**Runs:** {counted} " in page, table
