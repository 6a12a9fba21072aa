"""Addresses, words and choices of a reader, ranges of the parallel coordinates, narrow windows."""

import time

import pytest
from browser import Tab, browser
from page_tab import ROWS, SECTIONS, draw, show, write

pytestmark = pytest.mark.browser


def drag_along_axis(tab: Tab, name: str, low: float, high: float) -> None:
    """Draws a range on an axis of the parallel coordinates; its ends are shares of the axis."""
    draw(tab, "parallel")
    place = (
        "(() => { const at = document.querySelector('#parallel .plot').data[0].dimensions"
        f".findIndex(d => d.name === '{name}');"
        "const r = document.querySelectorAll('#parallel .axis-brush .background')[at]"
        ".getBoundingClientRect(); return [r.x + r.width / 2, r.y, r.height] })()"
    )
    x, top, height = tab.evaluate(place)
    start, end = top + height * (1 - low), top + height * (1 - high)
    tab.move(x, start)
    tab.mouse("mousePressed", x, start)
    for step in range(1, 6 if high != low else 1):  # else it is a click
        tab.mouse("mouseMoved", x, start + (end - start) * step / 5)
    tab.mouse("mouseReleased", x, end)


def test_addresses_and_words_that_no_page_wrote_break_nothing(some_runs, page, tmp_path):
    full = some_runs["full"].key
    odd = (
        f"#sel={full},{full},nothing&x=toString&axis=constructor&mode=__proto__&verdict=valueOf"
        "&score=constructor&to=constructor&a=x&b=y&run=z&cols=q&sort=valueOf:up&brush=%5B1"
    )
    with browser(tmp_path) as tab:
        show(tab, page(), odd)
        for section in SECTIONS:
            draw(tab, section)
        assert "1 selected" in tab.evaluate("document.getElementById('chosen').textContent")
        tab.evaluate("document.getElementById('clear').click()")
        every = tab.evaluate(ROWS)
        assert len(every) == 5
        for query, count in (
            ("constructor=1", 0), ("__proto__<2", 0), ("ratio<", 5), ("seed=", 5), ('"', 5),
            ("ratio!=0.10", 3), ("ratio=0.10", 2), ('method="alps"', 1), ("\"full", 1),
            ("optim.lr!=0.1", 5), ("(", 0), ("=", 0), ("<b>", 0),
        ):  # fmt: skip
            write(tab, query)
            assert len(tab.evaluate(ROWS)) == count, query
        assert not tab.errors()


def test_a_browser_that_limits_addresses_still_filters(some_runs, page, tmp_path):
    limit = "history.replaceState = () => { throw new DOMException('100 times', 'SecurityError') }"
    with browser(tmp_path) as tab:
        show(tab, page())
        tab.evaluate(limit)
        write(tab, "random")
        assert tab.evaluate(ROWS) == [some_runs["random"].key]
        assert not tab.errors()


def test_settings_that_follow_others_have_no_axis(made, page, tmp_path):
    for data, seed in (("mathinstruct", 0), ("ultrachat", 0), ("magicoder", 0), ("magicoder", 1)):
        made.finish(made.run("full", data=data, seed=seed), {"gsm8k": [1, 0, 1 - seed]})
    with browser(tmp_path) as tab:
        show(tab, page())
        draw(tab, "parallel")
        axes = "document.querySelector('#parallel .plot').data[0].dimensions.map(d => d.name)"
        assert tab.evaluate(axes) == ["data", "seed", "gsm8k/accuracy"]


def test_the_menu_of_columns_is_within_the_page(made, page, tmp_path):
    made.finish(made.run("full"), {"gsm8k": [1, 0]})  # a table of one row leaves no room above
    with browser(tmp_path) as tab:
        show(tab, page())
        tab.evaluate("document.getElementById('columns').open = true")
        menu = "document.querySelector('#columns > div').getBoundingClientRect()"
        assert tab.evaluate(f"{menu}.top + scrollY") > 0 and tab.evaluate(f"{menu}.height") > 100
        tab.evaluate("document.querySelectorAll('#columns input')[0].click()")
        assert "cols=scope" in tab.evaluate("location.hash")


@pytest.mark.parametrize("width", [360, 1280])
def test_a_name_leads_to_the_details_of_its_run(some_runs, page, tmp_path, width):
    with browser(tmp_path) as tab:
        show(tab, page(), width=width, height=740)
        tab.wait_for("performance.getEntriesByName('charts').length")
        tab.evaluate("document.querySelectorAll('#table .name')[1].click()")
        time.sleep(1)  # sections above are drawn, too
        top = tab.evaluate("document.getElementById('details').getBoundingClientRect().y")
        assert -10 < top < 370
        assert some_runs["full"].key in tab.evaluate("document.getElementById('details').innerText")


def test_b_is_another_run_than_a_or_none(some_runs, page, tmp_path):
    titles = "[...document.querySelectorAll('#heads h3')].map(t => t.textContent)"
    with browser(tmp_path) as tab:
        show(tab, page(), f"#a={some_runs['random'].key}")
        draw(tab, "heads")
        first = tab.evaluate(titles)
        assert len(first) == 3 and first[0].startswith("random") and first[1].startswith("alps")
        tab.evaluate(
            "(s => { s.value = s.options[0].value; s.dispatchEvent(new Event('change')) })"
            "(document.querySelectorAll('#heads select')[1])"
        )
        tab.wait_for(f"{titles}.length === 1")
        assert tab.evaluate("document.querySelectorAll('#heads select')[1].value") == "none"
        assert not tab.errors()


def test_ranges_of_the_parallel_coordinates_filter_the_runs(some_runs, page, tmp_path):
    keys = {name: run.key for name, run in some_runs.items()}
    with browser(tmp_path) as tab:
        path = page()
        show(tab, path, width=1600, height=1000)
        draw(tab, "parallel")
        drag_along_axis(tab, "trainable_fraction", 0.5, 0.8)
        tab.wait_for(f"{ROWS}.length === 0")
        tab.evaluate("document.getElementById('clear').click()")
        time.sleep(0.3)
        drag_along_axis(tab, "train_seconds", 0.3, 0.7)  # of 10.5, 21 and 31.5 seconds
        tab.wait_for(f"{ROWS}.length === 1")
        assert tab.evaluate(ROWS) == [keys["alps"]]
        count = "document.getElementById('count').textContent"
        assert tab.evaluate(count) == "1 of 5 runs, in ranges of settings and scores"
        address = tab.evaluate("location.hash")
        show(tab, path, address, width=1600, height=1000)
        assert tab.evaluate(ROWS) == [keys["alps"]]
        draw(tab, "parallel")
        drawn = "document.querySelector('#parallel .plot').data[0].dimensions"
        assert tab.evaluate(f"{drawn}.filter(d => d.constraintrange).map(d => d.name)") == [
            "train_seconds"
        ]
        assert tab.evaluate(f"{drawn}[0].values.length") == 3
        tab.evaluate("document.getElementById('clear').click()")
        assert len(tab.evaluate(ROWS)) == 5
        time.sleep(0.3)
        drag_along_axis(tab, "method", 0.65, 1.0)
        tab.wait_for(f"{ROWS}.length === 1")
        assert tab.evaluate(ROWS) == [keys["random"]]
        drag_along_axis(tab, "method", 0.2, 0.2)
        tab.wait_for(f"{ROWS}.length === 5")
        assert not tab.errors()


@pytest.mark.parametrize("width", [360, 1280])
def test_texts_of_charts_and_names_of_runs_have_room(some_runs, page, tmp_path, width):
    cut = """(id => [...document.querySelectorAll('#' + id + ' .plot')].flatMap(plot => {
      const r = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('svg text')].filter(text => {
        const t = text.getBoundingClientRect();
        return t.width && (t.left < r.left - 1 || t.right > r.right + 1);
      }).map(text => text.textContent) }))"""
    with browser(tmp_path) as tab:
        show(tab, page(), width=width, height=740)
        name = "document.querySelector('#table .name').getBoundingClientRect()"
        assert tab.evaluate(f"{name}.height") < 50
        for section in SECTIONS:
            draw(tab, section)
            assert tab.evaluate(f"{cut}('{section}')") == [], section
