"""Which figures there are, what is in them, and that no text in them is small."""

import struct
from dataclasses import replace
from functools import partial

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from alps.config.method_styles import method_styles
from alps.report import style
from alps.report.figure import bars, figures, ratio_curve
from alps.report.figure.figures import draw_figures, head_sets
from alps.report.figure.ratio_curve import Curve, contiguous_ranges, efficient_ratios, ratio_curves
from alps.report.table import layout as table_layout
from alps.report.table.cells import Cell, fill_table
from alps.report.table.paper import PaperNumber

build_layout = partial(table_layout.build_layout, styles=method_styles())


def right(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (40 - count)


def ratio_runs(made, **changes):
    runs = [made.run("alps", ratio=r, **changes) for r in (0.1, 0.3, 0.5)]
    return [made.run("full", **changes), *runs, made.run("no_attn", **changes)]


@pytest.fixture
def by_ratio(made):
    runs = ratio_runs(made)
    for run, count in zip(runs, (20, 24, 22, 18, 16), strict=True):
        made.finish(run, {"gsm8k": right(count)})
    return fill_table(build_layout(runs, []))


def curve(**values: float) -> Curve:
    points = {int(n.removeprefix("at")) / 100: Cell(value=v) for n, v in values.items()}
    return Curve("x", points)


def test_a_curve_goes_from_w_o_attn_to_w_full(by_ratio):
    (found,) = ratio_curves(by_ratio)
    expected = {0.0: 40.0, 0.1: 60.0, 0.3: 55.0, 0.5: 45.0, 1.0: 50.0}
    assert found.values() == pytest.approx(expected)


def test_the_efficient_range_is_above_w_full():
    assert efficient_ratios(curve(at0=9, at10=6, at30=7, at50=6, at100=5)) == [0.1, 0.3, 0.5]
    assert efficient_ratios(curve(at0=1, at10=4, at30=7, at50=8, at100=5)) == [0.3, 0.5]
    assert efficient_ratios(curve(at10=9, at30=9)) == []


def test_every_model_has_its_own_efficient_range():
    first = curve(at0=1, at10=6, at30=7, at50=4, at100=5)
    second = curve(at0=1, at10=4, at30=4, at50=8, at100=5)
    bands = [
        [(p.get_x(), p.get_x() + p.get_width()) for p in axes.patches]
        for axes in ratio_curve.draw_curves("x", [first, second]).axes
    ]
    assert bands == [[pytest.approx((10.0, 30.0))], [pytest.approx((48.0, 52.0))]]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.1, 0.3], [(0.1, 0.3)]), ([0.1, 0.5], [(0.1, 0.1), (0.5, 0.5)]), ([], [])],
)
def test_ranges_join_neighbours(shares, expected):
    assert contiguous_ranges(shares, [0.0, 0.1, 0.3, 0.5, 1.0]) == expected


def test_one_share_of_heads_is_no_curve(made):
    runs = [made.run("full"), made.run("alps"), made.run("no_attn")]
    for run in runs:
        made.finish(run, {"gsm8k": right(20)})
    assert ratio_curves(fill_table(build_layout(runs, []))) == []


def test_figures_are_drawn_as_png_and_pdf(by_ratio, tmp_path):
    paths = draw_figures("Table $3", by_ratio, tmp_path)
    assert {p.name for p in paths} == {"bars.png", "bars.pdf", "ratio.png", "ratio.pdf"}
    for path in paths:
        start = path.read_bytes()[:24]
        assert start.startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
        if path.suffix == ".png":
            assert struct.unpack(">I", start[16:20])[0] == style.WIDTH * style.DPI
    again = {p: p.read_bytes() for p in paths}
    draw_figures("Table $3", by_ratio, tmp_path)
    assert all(p.read_bytes() == before for p, before in again.items())


def test_nothing_is_drawn_where_nothing_ran(made, tmp_path):
    filled = fill_table(build_layout(ratio_runs(made), []))
    assert draw_figures("x", filled, tmp_path) == []


def drawn(filled) -> list[Figure]:
    return [figure for _, figure in figures._of_numbers("x", filled)]


def test_no_text_is_smaller_than_eight_points(by_ratio):
    for figure in drawn(by_ratio):
        sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text()}
        assert min(sizes) >= 8


def test_bars_have_the_values_and_intervals_of_the_table(by_ratio):
    figure = drawn(by_ratio)[0]
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([50.0, 60.0, 55.0, 45.0, 40.0])
    assert len(axes.containers) >= 5  # one errorbar beside each bar


def test_several_models_have_a_figure_of_averages(made, tmp_path):
    runs = []
    for model in ("llama3_2_1b", "llama3_2_3b"):
        for data, benchmark in (("ultrachat", "gpqa"), ("mathinstruct", "gsm8k")):
            runs.append(made.run("full", data, (benchmark,), model))
            made.finish(runs[-1], {benchmark: right(20)})
    paths = draw_figures("x", fill_table(build_layout(runs, [])), tmp_path)
    assert {p.stem for p in paths} == {"bars", "averages"}


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_averages_are_by_model_and_by_task(made):
    """Panels: all scores, general, code; groups: models; bars: rows."""
    runs = []
    for model, count in (("llama3_2_1b", 8), ("llama3_2_3b", 16)):
        for data, benchmarks in (
            ("ultrachat", ("gpqa",)), ("magicoder", ("humaneval", "humaneval_plus")),
        ):  # fmt: skip
            runs.append(made.run("full", data, benchmarks, model))
            scores = {b: right(count + 4 * i) for i, b in enumerate(benchmarks)}
            made.finish(runs[-1], scores)
    filled = fill_table(build_layout(runs, []))
    whole, code = bars.draw_averages("x", filled).axes
    assert [axes.get_title(loc="left") for axes in (whole, code)] == ["Avg.", "code"]
    assert heights(code) == pytest.approx([(20 + 30) / 2, (40 + 50) / 2])
    assert heights(whole) == pytest.approx([(20 + 20 + 30) / 3, (40 + 40 + 50) / 3])
    one = fill_table(build_layout(runs[:2], []))
    (axes,) = bars.draw_averages("x", one).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Avg.", "code"]


def test_an_average_by_task_has_the_mean_of_the_papers_numbers(made):
    facts = {"row": "1B, w/ full", "model": "llama3_2_1b", "method": "full", "ratio": None,
             "task_model": None, "task_data": None, "metric": "x"}  # fmt: skip
    paper = [
        PaperNumber(column=c, data=(d,), benchmarks=(b,), value=v, **facts)
        for c, d, b, v in (
            ("HEval", "magicoder", "humaneval", 45.0),
            ("HEval+", "magicoder", "humaneval_plus", 39.0),
            ("GPQA", "ultrachat", "gpqa", 20.0),
        )
    ]  # fmt: skip
    runs = [made.run("full", d, b) for d, b in
            (("magicoder", ("humaneval", "humaneval_plus")), ("ultrachat", ("gpqa",)))]  # fmt: skip
    filled = fill_table(build_layout(runs, paper))
    (code,) = bars.task_averages(filled)
    assert filled.with_columns([code]).cells[0][-1].printed == 42.0


def transferred(made):
    """Table 1 and Table 4 of one model: own rows 20 and 24 of 40, others 12 and 16."""
    own = [made.run("random"), made.run("alps")]
    heads_of_own = made.run("alps", "camel_math", task_data="mathinstruct")
    other = [made.run("random", "camel_math"), heads_of_own]
    for run, count in zip([*own, *other], (20, 24, 12, 16), strict=True):
        made.finish(run, {"gsm8k": right(count)})
    for run in (own[1], other[1]):
        made.heads(run, [(0, 0), (1, 2)])
    return [fill_table(build_layout(runs, [])) for runs in (own, other)]


def test_transfer_stands_beside_the_rows_of_table_1(made, tmp_path):
    own, other = transferred(made)
    figure = bars.draw_transfer("x", other, own)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["math"]
    assert heights(axes) == pytest.approx([50.0, 30.0, 60.0, 40.0])
    assert labels(figure) == [
        "Random, 10% (Table 1's data)", "Random, 10% (other data)",
        "ALPS, 10% (Table 1's data)", "ALPS, 10% (other data)",
    ]  # fmt: skip
    hatches = [bar.get_hatch() for bar in axes.patches]
    assert hatches[0] != hatches[1] and hatches[2] != hatches[3]
    names = {p.stem for p in draw_figures("x", other, tmp_path, own)}
    assert names == {"bars", "transfer", "heads_llama3_2_1b_mathinstruct_alps"}


def test_heads_are_named_by_the_data_of_the_task_model(made, tmp_path, monkeypatch):
    from alps.report.heads import heat_map

    titles = []
    monkeypatch.setattr(heat_map, "draw_heat_map", lambda heads, path, title: titles.append(title))
    _, other = transferred(made)
    names = {p.stem for p in draw_figures("x", other, tmp_path)}
    assert "heads_llama3_2_1b_mathinstruct_alps" in names
    assert set(titles) == {"llama3_2_1b, mathinstruct: pad"}


def test_heads_of_another_task_model_have_a_map_of_their_own(made, tmp_path):
    runs = [made.run("alps"), made.run("alps", task_model="fewer_data")]
    for run in runs:
        made.finish(run, {})
        made.heads(run, [(0, 0), (1, 2)])
    names = {p.stem for p in draw_figures("x", fill_table(build_layout(runs, [])), tmp_path)}
    own = "heads_llama3_2_1b_mathinstruct_alps"
    assert names == {own, f"{own}_fewer_data", "overlap_llama3_2_1b"}


def test_a_sheet_has_one_colour_scale_and_a_panel_for_each_place(made, tmp_path, monkeypatch):
    from alps.report.heads import sheet as head_sheet

    run, kept = made.run("alps"), []
    heads = made.heads(run, [(0, 0), (1, 2)])
    stronger = replace(heads, scores=tuple(tuple(3 * s for s in row) for row in heads.scores))
    monkeypatch.setattr(head_sheet, "save_all", lambda figure, *_: kept.append(figure) or [])
    found = {("1b", "general"): heads, ("1b", "math"): stronger, ("3b", "math"): heads}
    head_sheet.draw_sheet("x", found, tmp_path)
    *panels, bar = kept[0].axes
    assert len(panels) == 4 and bar.get_xlabel().startswith("pad score, one scale for all")
    shown = [axes.get_title(loc="left") for axes in panels if axes.axison]
    assert shown == ["1b, general", "1b, math", "3b, math"]
    limits = {axes.collections[0].get_clim() for axes in panels if axes.axison}
    assert len(limits) == 1 and limits.pop()[1] > 1.0
    framed = panels[0].collections[1].get_paths()
    assert len(framed) == 2


def test_hours_are_a_figure(made, tmp_path):
    timed = [made.run(m, benchmarks=()) for m in ("full", "alps")]
    timed.append(replace(timed[1], seed=1))  # w/ full has no such seed
    for each, hours in zip(timed, (2.0, 1.0, 3.0), strict=True):
        made.finish(each, {}, train_seconds=3600 * hours)
    filled = fill_table(build_layout(timed, []))
    figure = bars.draw_hours("x", filled, 0)
    shown = [t.get_text() for t in figure.findobj(Text)]
    assert "2.00 h, 2.00 x as fast as w/ full" in shown


def test_heads_of_tasks_are_compared_and_mapped(made, tmp_path):
    runs = [made.run("alps", data, ratio=r) for data in ("ultrachat", "mathinstruct")
            for r in (0.3, 0.1)]  # fmt: skip
    for run in runs:
        made.finish(run, {})
        made.heads(run, [(0, 0), (0, 1)] if run.data.name == "ultrachat" else [(0, 1), (2, 3)])
    filled = fill_table(build_layout(runs, []))
    ratios = [s.run.method.ratio for s, _ in head_sets(filled)]
    assert ratios == [0.1, 0.1]
    stems = {p.stem for p in draw_figures("x", filled, tmp_path)}
    heat = {f"heads_llama3_2_1b_{data}_alps" for data in ("ultrachat", "mathinstruct")}
    assert stems == {"overlap_llama3_2_1b"} | heat
    assert (tmp_path / "overlap_llama3_2_1b.pdf").read_bytes().startswith(b"%PDF")


def test_a_method_looks_the_same_everywhere_and_its_series_differ():
    def styled(**series: str):
        return style.series_styles(series, method_styles())

    alone = styled(ALPS="alps")["ALPS"]
    assert alone.color == "#0072b2"
    assert styled(full="full", ALPS="alps")["ALPS"] == alone
    several = styled(first="alps", second="alps", third="alps")
    assert several["first"] == alone
    assert len({each.color for each in several.values()}) == 3


def test_a_method_whose_yaml_names_no_color_gets_one_of_the_palette():
    new = {"new": style.MethodStyle(label="New")}
    first, second = style.series_styles({"New": "new", "other": "other"}, new).values()
    assert (first, second) == style.PALETTE[:2]


def test_methods_differ_in_grey():
    """Two styles of the same lightness need hatching to be distinguished in print."""

    def grey(color: str) -> float:
        r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * r + 0.587 * g + 0.114 * b

    known = method_styles()
    styles = [known[m] for m in
              ("full", "no_attn", "random", "layer_consistent", "lora", "alps")]  # fmt: skip
    for i, first in enumerate(styles):
        for second in styles[:i]:
            far = abs(grey(first.color) - grey(second.color)) > 20
            assert far or first.hatch != second.hatch


def test_the_level_and_the_range_are_in_the_figure(by_ratio):
    figure = ratio_curve.draw_curves("x", ratio_curves(by_ratio))
    (axes,) = figure.axes
    (band,) = [p for p in axes.patches if p.get_label().startswith("efficient")]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((10.0, 30.0))
    levels = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert levels[0].get_ydata()[0] == 50.0


def test_a_range_that_is_empty_is_said_where_it_is():
    above, none = curve(at10=9.5, at30=9, at100=9), curve(at10=9, at30=9, at100=9)
    unknown = curve(at10=9, at30=9)
    figure = ratio_curve.draw_curves("x", [above, none, unknown])
    said = [ratio_curve.NO_RANGE in axes.get_title(loc="left") for axes in figure.axes]
    assert said == [False, True, False]
    assert "efficient range: above w/ full" in labels(figure)


def labels(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(("count", "rows"), [(3, 1), (7, 2), (12, 3)])
def test_a_legend_has_every_label_once_and_fits_into_the_figure(count, rows):
    figure = style.new_figure("x", 3.0)
    for axes in figure.subplots(1, 2):
        style.plot_paper_values(axes, [0.0, 1.0], [1.0, 2.0])
    names = [rf"a method, $\{i}$" for i in range(count)]  # no mathematics
    style.legend_below(figure, [Patch(label=name) for name in names])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [*names, "the paper's numbers"]
    assert legend.get_window_extent().width <= figure.bbox.width
    assert len({round(t.get_window_extent().y0) for t in legend.get_texts()}) == rows
