"""Numbers of a table, checked against what was written into the result files."""

import json
from dataclasses import replace
from functools import partial
from statistics import mean, stdev

import numpy as np
import pytest
from scipy.stats import norm

from alps.config.method_styles import method_styles
from alps.report.table import layout as table_layout
from alps.report.table.cells import fill_table
from alps.report.table.paper import PaperNumber
from alps.runs.folder import RunFolder

build_layout = partial(table_layout.build_layout, styles=method_styles())


def answers(right: int, count: int = 40, start: int = 0) -> list[float]:
    return [float(start <= i < start + right) for i in range(count)]


def cells_of(runs, paper=()):
    """Row label -> column label -> cell."""
    filled = fill_table(build_layout(runs, paper))
    labels = [c.label for c in filled.layout.columns]
    return {row.label: dict(zip(labels, cells, strict=True)) for row, cells in filled.rows()}


def three_methods(made, **changes):
    return [made.run(m, **changes) for m in ("full", "random", "alps")]


def rows(found):
    """The cells of w/ full, Random and ALPS."""
    return [next(v for k, v in found.items() if name in k) for name in ("full", "Random", "ALPS")]


def test_a_score_is_in_percent_with_the_interval_of_its_documents(made):
    run = made.run()
    made.finish(run, {"gsm8k": answers(10)})
    cell = cells_of([run])["llama3_2_1b, w/ full"]["gsm8k"]
    assert cell.value == 25.0 and cell.seeds == (0,) and cell.std is None
    assert cell.interval.low < 25 < cell.interval.high
    assert 8 < cell.interval.low < 20 and 30 < cell.interval.high < 45  # binomial: 12.7 to 41.2


def test_seeds_give_mean_and_standard_deviation(made):
    runs = [made.run(seed=seed) for seed in (0, 1, 2)]
    for run, right in zip(runs, (10, 14, 18), strict=True):
        made.finish(run, {"gsm8k": answers(right)})
    cell = cells_of(runs)["llama3_2_1b, w/ full"]["gsm8k"]
    shares = [25.0, 35.0, 45.0]
    assert cell.value == pytest.approx(mean(shares))
    assert cell.std == pytest.approx(stdev(shares))
    assert cell.seeds == (0, 1, 2)


def test_a_difference_is_paired(made):
    """Six documents of difference, all in one direction; unpaired, the 95 % reach 22 points."""
    full, random, alps = three_methods(made)
    made.finish(full, {"gsm8k": answers(20)})
    made.finish(random, {"gsm8k": answers(20)})
    made.finish(alps, {"gsm8k": answers(26)})
    *_, cells = rows(cells_of([full, random, alps]))
    change = cells["gsm8k"].from_random
    assert change.value == pytest.approx(15.0)
    half = 1.959964 * np.sqrt(0.15 * 0.85 / 39)  # s / sqrt(n) of 6 ones and 34 zeros
    assert change.interval == pytest.approx((15 - 100 * half, 15 + 100 * half), rel=1e-5)
    assert change.p == change.p_mcnemar == pytest.approx(2 / 2**6)
    assert cells["gsm8k"].unlike_random == "models"


def test_few_documents_are_judged_exactly(made):
    """Five documents of difference, all one way: the interval excludes zero, the exact p is 6 %."""
    full, random, alps = three_methods(made)
    for run, count in ((full, 20), (random, 20), (alps, 25)):
        made.finish(run, {"gsm8k": answers(count)})
    cell = cells_of([full, random, alps])["llama3_2_1b, ALPS, 10%"]["gsm8k"]
    assert cell.from_random.interval.excludes_zero
    assert cell.from_random.p == 2 / 2**5 and cell.unlike_random == ""


def test_an_average_is_judged_by_its_interval(made):
    code = ("humaneval", "humaneval_plus")
    runs = [made.run(m, data="magicoder", benchmarks=code) for m in ("random", "alps")]
    for run, count in zip(runs, (20, 26), strict=True):
        made.finish(run, dict.fromkeys(code, answers(count)))
    found = cells_of(runs)["llama3_2_1b, ALPS, 10%"]["Avg."].from_random
    assert found.p == pytest.approx(2 * norm.sf(0.15 / np.sqrt(0.15 * 0.85 / 39)))
    assert found.p_mcnemar is None


def test_with_two_seeds_far_apart_nothing_is_found(made):
    """Differences of 17.5 and 100 points, each with a narrow interval over documents."""
    runs = [made.run(m, seed=s) for s in (0, 1) for m in ("random", "alps")]
    for run, right in zip(runs, (20, 27, 0, 40), strict=True):
        made.finish(run, {"gsm8k": answers(right)})
    cell = cells_of(runs)["llama3_2_1b, ALPS, 10%"]["gsm8k"]
    change = cell.from_random
    assert change.value == pytest.approx(58.75) and change.seeds == (0, 1)
    assert change.interval.low < -400 and change.interval.high > 500  # t of one degree: 12.7
    assert cell.unlike_random == "" and change.p_mcnemar is None
    assert cell.interval == (0.0, 100.0)  # cut at what a score can be


def test_methods_differ_over_seeds_only_if_they_do_so_in_each(made):
    runs = [made.run(m, seed=s) for s in (0, 1, 2) for m in ("random", "alps")]
    for run, right in zip(runs, (10, 30, 11, 31, 10, 31), strict=True):
        made.finish(run, {"gsm8k": answers(right)})
    cell = cells_of(runs)["llama3_2_1b, ALPS, 10%"]["gsm8k"]
    assert cell.unlike_random == "methods"
    changes = np.array([50.0, 50.0, 52.5])
    least = 4.302653 * changes.std(ddof=1) / np.sqrt(3)  # of seeds alone; documents add to it
    assert least < cell.from_random.value - cell.from_random.interval.low < 3 * least + 25


def test_holm_takes_all_comparisons_with_random_together(made):
    full, random, alps = three_methods(made)
    for run, right in ((full, 20), (random, 20), (alps, 26)):
        made.finish(run, {"gsm8k": answers(right)})
    layout = build_layout([full, random, alps], [])
    marks = {
        c: fill_table(layout, correction=c).cells[2][0].unlike_random for c in ("none", "holm")
    }
    assert marks == {"none": "models", "holm": ""}
    found = fill_table(layout).cells[2][0].from_random
    assert found.p < 0.05 and found.p_holm == pytest.approx(2 * found.p)


def test_losses_are_paired_by_document(made):
    runs = three_methods(made, benchmarks=("held_out",))
    losses = np.linspace(1, 9, 40)
    for run, less in zip(runs, (0.0, 0.0, 0.1), strict=True):
        made.finish(run, {"held_out": list(losses - less * (1 + 0.1 * (losses > 5)))})
    cell = rows(cells_of(runs))[2]["held_out loss"]
    assert np.ptp(cell.interval) > 1 and cell.from_random.value == pytest.approx(-0.105)
    assert -0.11 < cell.from_random.interval.low < cell.from_random.interval.high < -0.1
    assert cell.from_random.p_mcnemar is None and cell.unlike_random == "models"


def test_as_many_documents_of_which_others_are_right_are_no_difference(made):
    full, random, alps = three_methods(made)
    made.finish(full, {"gsm8k": answers(20)})
    made.finish(random, {"gsm8k": answers(20)})
    made.finish(alps, {"gsm8k": answers(20, start=17)})
    *_, cells = rows(cells_of([full, random, alps]))
    change = cells["gsm8k"].from_random
    assert change.value == 0 and not cells["gsm8k"].unlike_random
    assert change.interval.low < -10 and change.interval.high > 10


def test_a_difference_is_of_the_seeds_that_both_have(made):
    """ALPS and w/ full are the same at each seed, and seeds differ by 30 points."""
    runs = [made.run(m, seed=s) for m in ("full", "random", "alps") for s in (0, 1)]
    for run in runs:
        if (run.method.name, run.seed) not in (("full", 1), ("random", 0)):
            made.finish(run, {"gsm8k": answers(10 + 12 * run.seed)})
    *_, alps = rows(cells_of(runs))
    assert alps["gsm8k"].value == pytest.approx(40.0)
    by_full, by_random = alps["gsm8k"].from_full, alps["gsm8k"].from_random
    assert (by_full.value, by_full.seeds, by_full.interval) == (0, (0,), (0, 0))
    assert (by_random.value, by_random.seeds, by_random.interval) == (0, (1,), (0, 0))
    assert by_full.partial and by_random.partial and not alps["gsm8k"].unlike_random
    change = alps["Δ w/ full"]
    assert (change.value, change.seeds, change.partial) == (0, (0,), True)


def test_rows_without_a_seed_in_common_are_not_compared(made):
    runs = [made.run("full"), made.run("alps", seed=1)]
    for run in runs:
        made.finish(run, {"gsm8k": answers(20 + run.seed)})
    found = cells_of(runs)["llama3_2_1b, ALPS, 10%"]
    assert found["gsm8k"].value is not None and found["gsm8k"].from_full is None
    assert found["Δ w/ full"].value is None


def test_a_model_as_it_is_is_compared_with_every_seed(made):
    runs = [made.run(seed=seed) for seed in (1, 2)]
    for run in runs:
        made.finish(run, {"gsm8k": answers(20 + run.seed)})
    made.finish_base(runs[0], {"gsm8k": answers(3)})
    facts = {"model": runs[0].model.name, "data": (), "ratio": None, "task_model": None,
             "task_data": None, "benchmarks": ("gsm8k",), "metric": "x", "value": 1.0}  # fmt: skip
    paper = [PaperNumber(row=m, column="GSM8K", method=m, **facts) for m in ("base", "full")]
    change = cells_of(runs, paper)["base"]["GSM8K"].from_full
    assert change.value == pytest.approx(7.5 - 53.75) and change.seeds == (1, 2)
    assert change.interval.high < 0 and not change.partial


@pytest.mark.parametrize("seed", [0, 1])
def test_answers_to_other_documents_are_not_paired(seed, made):
    """One of two seeds is enough."""
    runs = [made.run(m, seed=s) for m in ("random", "alps") for s in (0, 1)]
    for run in runs:
        made.finish(run, {"gsm8k": answers(5 if run.method.name == "random" else 35)})
    assert cells_of(runs)["llama3_2_1b, ALPS, 10%"]["gsm8k"].unlike_random
    (samples,) = (runs[2 + seed].folder / "evals").rglob("samples_gsm8k.jsonl")
    samples.write_text(samples.read_text().replace('"h', '"other'))
    cell = cells_of(runs)["llama3_2_1b, ALPS, 10%"]["gsm8k"]
    assert cell.from_random.value == pytest.approx(75.0)
    assert cell.from_random.interval is None and not cell.unlike_random
    assert cell.interval is not None


@pytest.mark.parametrize(
    ("count", "interval", "mark"), [(1, None, ""), (5, (100, 100), ""), (40, (100, 100), "models")]
)
def test_documents_that_all_came_out_alike_are_counted(count, interval, mark, made):
    """Their interval has no width whatever their number; McNemar's p goes by it."""
    runs = three_methods(made)
    for run, right in zip(runs, (0, 0, count), strict=True):
        made.finish(run, {"gsm8k": answers(right, count)})
    *_, cells = rows(cells_of(runs))
    assert cells["gsm8k"].from_random.interval == interval
    assert cells["gsm8k"].unlike_random == mark


def test_the_change_is_against_full_and_the_best_is_marked(made):
    full, random, alps = three_methods(made)
    for run, right in ((full, 20), (random, 16), (alps, 24)):
        made.finish(run, {"gsm8k": answers(right)})
    by_full, by_random, by_alps = rows(cells_of([full, random, alps]))
    assert by_full["Δ w/ full"].value is None
    assert by_random["Δ w/ full"].value == pytest.approx(-10.0)
    assert by_alps["Δ w/ full"].value == pytest.approx(10.0)
    assert by_alps["Δ w/ full"].interval.low > 0
    best = [cells["gsm8k"].best for cells in (by_full, by_random, by_alps)]
    assert best == [False, False, True]


def test_equal_rows_are_none_of_them_the_best(made):
    runs = three_methods(made)
    for run in runs:
        made.finish(run, {"gsm8k": answers(0)})
    assert not any(c["gsm8k"].best for c in cells_of(runs).values())


def test_the_lowest_loss_is_the_best(made):
    runs = three_methods(made, benchmarks=("held_out",))
    for run, loss in zip(runs, (1.5, 1.2, 1.4), strict=True):
        made.finish(run, {"held_out": [loss] * 4})
    found = cells_of(runs)
    assert [c["held_out loss"].best for c in rows(found)] == [False, True, False]
    assert rows(found)[1]["held_out loss"].value == pytest.approx(1.2)


def test_a_model_as_it_is_is_never_the_best(made):
    run, other = made.run(), made.run("no_attn")
    made.finish(run, {"gsm8k": answers(10)})
    made.finish(other, {"gsm8k": answers(8)})
    made.finish_base(run, {"gsm8k": answers(30)})
    facts = {"model": run.model.name, "data": (), "ratio": None, "task_model": None,
             "task_data": None, "benchmarks": ("gsm8k",), "metric": "x", "value": 1.0}  # fmt: skip
    methods = {"vanilla": "base", "full": "full", "no": "no_attn"}
    paper = [PaperNumber(row=r, column="GSM8K", method=m, **facts) for r, m in methods.items()]
    found = cells_of([run, other], paper)
    assert found["vanilla"]["GSM8K"].value == 75.0
    assert [found[r]["GSM8K"].best for r in methods] == [False, True, False]


def test_an_average_is_over_all_its_documents(made):
    """HumanEval and HumanEval+ are the same documents: their mean is as unsure as each alone."""
    same = made.run(data="magicoder", benchmarks=("humaneval", "humaneval_plus"))
    right = answers(20)
    made.finish(same, {"humaneval": right, "humaneval_plus": right})
    cells = cells_of([same])["llama3_2_1b, w/ full"]
    half = 100 * 1.959964 * np.sqrt(0.25 / 39)
    assert cells["Avg."].interval == pytest.approx((50 - half, 50 + half), rel=1e-6)

    others = [made.run(data="ultrachat", benchmarks=("gpqa",)), made.run()]
    made.finish(others[0], {"gpqa": right})
    made.finish(others[1], {"gsm8k": right})
    cells = cells_of(others)["llama3_2_1b, w/ full"]
    half = half / np.sqrt(2)
    assert cells["Avg."].interval == pytest.approx((50 - half, 50 + half), rel=1e-6)


def test_samples_that_do_not_give_the_score_are_not_drawn_from(made):
    runs = three_methods(made)
    for run, right in zip(runs, (20, 16, 24), strict=True):
        made.finish(run, {"gsm8k": answers(right)})
    (samples,) = (runs[2].folder / "evals").rglob("samples_gsm8k.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[0]["exact"] = 0.0
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    *_, cells = rows(cells_of(runs))
    assert cells["gsm8k"].from_random.interval is None and not cells["gsm8k"].unlike_random
    assert cells["gsm8k"].interval is not None  # the evaluation's own


def test_nothing_is_drawn_from_samples_that_are_gone(made):
    run = made.run()
    made.finish(run, {"gsm8k": answers(20)})
    for path in (run.folder / "evals").rglob("samples_*"):
        path.unlink()
    cell = cells_of([run])["llama3_2_1b, w/ full"]["gsm8k"]
    own = json.loads(next((run.folder / "evals").rglob("alpaca.json")).read_text())["uncertainty"]
    assert cell.interval.low == pytest.approx(100 * own["accuracy"]["low"])


def test_what_failed_runs_or_is_missing_is_a_gap(made):
    full, random, alps = three_methods(made)
    made.fail(full, "the loss is nan")
    made.finish(alps, {})
    by_full, by_random, by_alps = rows(cells_of([full, random, alps]))
    (gap,) = by_full["gsm8k"].gaps
    assert (gap.trouble, gap.reason, by_full["gsm8k"].value) == ("failed", "the loss is nan", None)
    assert by_random["gsm8k"].gaps[0].trouble == "missing"
    assert by_alps["gsm8k"].gaps[0].trouble == "not evaluated"


def test_a_result_of_another_schema_is_unreadable(made):
    run = made.run()
    made.finish(run, {"gsm8k": answers(3)}, schema_version=99)
    (gap,) = cells_of([run])["llama3_2_1b, w/ full"]["gsm8k"].gaps
    assert gap.trouble == "unreadable" and "schema 99" in gap.reason


def test_a_mean_of_some_seeds_says_which_are_missing(made):
    runs = [made.run(seed=seed) for seed in (0, 1)]
    made.finish(runs[0], {"gsm8k": answers(10)})
    cell = cells_of(runs)["llama3_2_1b, w/ full"]["gsm8k"]
    assert cell.value == 25.0 and cell.seeds == (0,)
    assert [g.key for g in cell.gaps] == [runs[1].key]


def test_a_mean_over_data_needs_all_of_them(made):
    runs = [made.run(data="ultrachat", benchmarks=("gpqa",)), made.run()]
    made.finish(runs[0], {"gpqa": answers(10)})
    cells = cells_of(runs)["llama3_2_1b, w/ full"]
    assert cells["gpqa"].value == 25.0 and cells["Avg."].value is None


def test_hours_are_means_over_data(made):
    runs = [made.run(data=d, benchmarks=()) for d in ("ultrachat", "mathinstruct")]
    for run, hours in zip(runs, (1.0, 2.0), strict=True):
        made.finish(run, {}, train_seconds=3600 * hours)
    assert cells_of(runs)["llama3_2_1b, w/ full"]["train hours"].value == 1.5


def test_random_with_another_share_of_heads_is_no_reference(made):
    runs = [made.run("random", ratio=0.1), made.run("alps", ratio=0.3)]
    for run in runs:
        made.finish(run, {"gsm8k": answers(20)})
    *_, cells = cells_of(runs).values()
    assert cells["gsm8k"].from_random is None


def test_a_stopped_run_with_an_old_result_still_shows_it(made):
    run = made.run()
    made.finish(run, {"gsm8k": answers(10)})
    RunFolder(run.folder).set_status("running")  # nobody holds its lock
    assert cells_of([run])["llama3_2_1b, w/ full"]["gsm8k"].value == 25.0


def test_an_evaluation_under_another_protocol_is_not_taken(made):
    run = made.run()
    made.finish(run, {"gsm8k": answers(10)})
    (asked,) = run.evals.benchmarks
    other = replace(run.evals, benchmarks=(replace(asked, protocol="plain"),))
    cell = cells_of([replace(run, evals=other)])["llama3_2_1b, w/ full"]["gsm8k"]
    assert cell.value is None and cell.gaps[0].trouble == "not evaluated"
