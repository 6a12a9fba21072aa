"""The page in a real browser: filters, hover values, links, keyboard, themes, hostile texts."""

import json
import time
from itertools import combinations
from pathlib import Path

import pytest
from browser import Tab, browser

from alps.heads.head_set import HeadSet
from alps.report.heads.overlap import compare
from alps.runs.folder import RunFolder

pytestmark = pytest.mark.browser
SECTIONS = (
    "tradeoff",
    "curves",
    "heads",
    "overlap",
    "differences",
    "parallel",
    "compare",
    "details",
)
ROWS = "[...document.querySelectorAll('#table tbody tr')].map(r => r.dataset.key)"


def show(tab: Tab, page: Path, address: str = "", **window) -> None:
    tab.open("about:blank")
    tab.open(page.as_uri() + address, **window)
    tab.wait_for("document.documentElement.dataset.ready === 'all'")


def draw(tab: Tab, section: str) -> None:
    """Scrolls to a section and waits for what it shows."""
    tab.evaluate(f"document.getElementById('{section}').scrollIntoView()")
    done = f"document.querySelector('#{section} :is(.main-svg, .empty, table)')"
    assert tab.wait_for(f"!!{done}"), section
    time.sleep(0.3)


def write(tab: Tab, text: str) -> None:
    tab.evaluate(
        f"(q => {{ q.value = {json.dumps(text)}; q.dispatchEvent(new Event('input')) }})"
        "(document.getElementById('query'))"
    )


def hover(tab: Tab, expression: str) -> str:
    """The hover text at a place of the window, given as [x, y]."""
    x, y = tab.evaluate(expression)
    tab.move(x, y)
    text = "document.querySelector('.hoverlayer .hovertext')?.textContent"
    return tab.wait_for(text)


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
    for step in range(1, 6):
        tab.mouse("mouseMoved", x, start + (end - start) * step / 5)
    tab.mouse("mouseReleased", x, end)


def result(run) -> dict:
    return json.loads(RunFolder(run.folder).result_path.read_text())


def test_filters_filter_and_links_keep_the_view(some_runs, page, tmp_path):
    path = page()
    keys = {name: run.key for name, run in some_runs.items()}
    with browser(tmp_path) as tab:
        show(tab, path)
        assert len(tab.evaluate(ROWS)) == 5
        for query, wanted in (
            ("random", ["random"]), ("ratio<=0.1", ["alps", "random"]),
            ("state=failed", ["failed"]), ("method!=alps trainable_fraction>0.5", ["full"]),
            ("optim.lr=0.0001 memory", ["failed"]),
        ):  # fmt: skip
            write(tab, query)
            assert tab.evaluate(ROWS) == [keys[name] for name in wanted], query
        write(tab, "nothing like it")
        assert "reset" in tab.evaluate("document.getElementById('table').textContent")
        write(tab, "")
        tab.evaluate(
            "[...document.querySelectorAll('.chip')].find(c => c.textContent === 'alps').click()"
        )
        assert tab.evaluate(ROWS) == [keys["alps"]]
        tab.evaluate("document.querySelector('#table tbody input').click()")
        address = tab.evaluate("location.hash")
        assert f"sel={keys['alps']}" in address and "in.method=alps" in address
        show(tab, path, address)
        assert tab.evaluate(ROWS) == [keys["alps"]]
        assert tab.evaluate("document.querySelector('#table tbody input').checked")
        show(tab, path, "#sort=gsm8k/accuracy:down")
        assert tab.evaluate(ROWS)[:2] == [keys["full"], keys["alps"]]
        tab.evaluate("document.querySelector('[data-column=\"gsm8k/accuracy\"]').click()")
        assert tab.evaluate(ROWS)[-2:] != [keys["full"], keys["alps"]]
        assert not tab.errors()


def test_hovers_show_the_numbers_of_the_result(some_runs, page, tmp_path):
    full, alps = result(some_runs["full"]), result(some_runs["alps"])
    with browser(tmp_path) as tab:
        show(tab, page(), f"#x=train_seconds&a={alps['key']}", width=1600, height=1000)
        draw(tab, "tradeoff")
        point = (
            "(() => { const trace = [...document.querySelectorAll('#tradeoff .trace.scatter')]"
            ".find(t => t.__data__[0].trace.customdata?.[0] === '%s');"
            "const r = trace.querySelector('.points path').getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        text = hover(tab, point % full["key"])
        assert f"gsm8k/accuracy {full['evals']['gsm8k']['accuracy']}" in text
        assert f"training seconds {full['train_seconds']}" in text
        draw(tab, "curves")
        drawn = tab.evaluate(
            "document.querySelector('#curves .plot').data.map(t => [t.y[0], t.y[11]])"
        )
        assert drawn == [[3, 2.0833]] * 3
        draw(tab, "heads")
        cell = (
            "(() => { const p = document.querySelector('#heads .plot'), l = p._fullLayout,"
            " r = p.getBoundingClientRect(); return [r.x + l.xaxis._offset + l.xaxis.d2p(1),"
            " r.y + l.yaxis._offset + l.yaxis.d2p(2)] })()"
        )
        heads = HeadSet.read(RunFolder(some_runs["alps"].folder).heads_path)
        assert heads.scores
        text = hover(tab, cell)
        assert "layer 2, head 1 (KV group 0)" in text and "chosen" in text
        assert f"pad score {float(f'{heads.scores[2][1]:.6g}')}" in text
        assert not tab.errors()


def test_charts_agree_with_python(some_runs, page, tmp_path):
    with browser(tmp_path) as tab:
        show(tab, page(), f"#to={some_runs['full'].key}", width=1600, height=1000)
        for section in SECTIONS:
            draw(tab, section)
        plots = "document.querySelector('#%s .plot').data"
        z = tab.evaluate(plots % "overlap" + "[0].z")
        sets = [
            (n, HeadSet.read(RunFolder(some_runs[n].folder).heads_path)) for n in ("alps", "random")
        ]
        (pair,) = compare(sets).pairs
        assert z == [[1, pair.jaccard], [pair.jaccard, 1]]
        front = tab.evaluate(plots % "tradeoff" + "[0]")
        points = [
            (100 * r["trainable_fraction"], r["evals"]["gsm8k"]["accuracy"])
            for r in (result(some_runs[n]) for n in ("full", "alps", "random"))
        ]
        beaten = {b for a, b in [*combinations(points, 2), *combinations(points[::-1], 2)]
                  if a[0] <= b[0] and a[1] >= b[1]}  # fmt: skip
        assert list(zip(front["x"], front["y"], strict=True)) == sorted(set(points) - beaten)
        shown = tab.evaluate(
            plots % "differences" + ".flatMap(t => t.x.map((x, i) => [t.customdata[i], x]))"
        )
        full, alps = (result(some_runs[n])["evals"]["gsm8k"]["accuracy"] for n in ("full", "alps"))
        assert dict(shown)[some_runs["alps"].key] == pytest.approx(alps - full)
        buttons = tab.evaluate(
            "[...new Set([...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title))]"
        )
        assert not [b for b in buttons if "hare" in b or "loud" in b]  # nothing sends a chart away
        assert not tab.errors()


def test_keyboard_themes_and_narrow_windows(some_runs, page, tmp_path):
    theme = "document.documentElement.dataset.theme"
    with browser(tmp_path) as tab:
        show(tab, page(), width=360, height=740, dark=True)
        assert tab.evaluate(theme) == "dark"
        tab.evaluate(
            "(s => { s.value = 'light'; s.dispatchEvent(new Event('change')) })"
            "(document.getElementById('theme'))"
        )
        assert tab.evaluate(theme) == "light"
        for section in SECTIONS:
            draw(tab, section)
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), section
        tab.press("/")
        assert tab.evaluate("document.activeElement.id") == "query"
        tab.evaluate("document.querySelector('#table tbody input').focus()")
        tab.press("ArrowDown")
        tab.press(" ")
        second = tab.evaluate(ROWS)[1]
        assert tab.evaluate("location.hash") == f"#sel={second}"
        tab.press("Enter")
        assert f"run={second}" in tab.evaluate("location.hash")
        assert not tab.errors()


def test_texts_of_runs_stay_texts(hostile_run, some_runs, made, page, tmp_path):
    made.fail(made.run("lora", seed=3), "</script><img src=x onerror=\"window.hacked='reason'\">")
    with browser(tmp_path) as tab:
        show(tab, page(), f"#run={hostile_run.key}&sel={hostile_run.key},{some_runs['alps'].key}")
        for section in SECTIONS:
            draw(tab, section)
        assert tab.evaluate("window.hacked ?? null") is None
        assert (
            tab.evaluate(
                "document.images.length + document.querySelectorAll('a, iframe, b').length"
            )
            == 0
        )
        assert tab.evaluate("document.scripts.length") == 3
        shown = tab.evaluate("document.getElementById('details').textContent")
        assert shown.count("</script><img src=x onerror=") >= 5
        assert {url.split(":")[0] for url in tab.requested()} <= {"file", "data", "blob", "about"}
        assert not tab.errors()


def test_a_page_without_results_says_what_to_do(made, page, tmp_path):
    made.fail(made.run("lora"), "no memory")
    with browser(tmp_path) as tab:
        show(tab, page())
        for section in SECTIONS:
            draw(tab, section)
        texts = tab.evaluate("[...document.querySelectorAll('.empty')].map(e => e.textContent)")
        assert any("alps localize" in text for text in texts) and len(texts) >= 7
        assert not tab.errors()


def test_a_long_table_grows_and_long_names_of_runs_differ(synthetic, made, page, tmp_path):
    synthetic.write_runs(made.output_dir, 60, points=5, documents=4)
    with browser(tmp_path) as tab:
        show(tab, page())
        first = tab.evaluate(ROWS)
        assert tab.evaluate("document.getElementById('count').textContent") == "60 of 60 runs"
        tab.evaluate("document.getElementById('more').click()")
        rows = tab.evaluate(ROWS)
        assert len(first) == 40 and rows[:40] == first and len(set(rows)) == 60
        assert tab.evaluate("document.getElementById('more').hidden")
        names = tab.evaluate(
            "[...document.querySelectorAll('#table .name')].map(n => n.textContent)"
        )
        assert len(set(names)) == 60
        assert not tab.errors()


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
