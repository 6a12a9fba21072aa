"""The page in a real browser: filters, hover values, links, keyboard, themes, hostile texts."""

import json
from itertools import combinations

import pytest
from browser import Tab, browser
from page_tab import ROWS, SECTIONS, draw, show, write
from scipy.stats import rankdata

from alps.heads.head_set import HeadSet
from alps.report.heads.overlap import compare
from alps.report.page.differences import pooled
from alps.report.page.page_run import runs_in_folder
from alps.runs.folder import RunFolder

pytestmark = pytest.mark.browser


def hover(tab: Tab, expression: str) -> str:
    """The hover text at a place of the window, given as [x, y]."""
    x, y = tab.evaluate(expression)
    tab.move(x, y)
    text = "document.querySelector('.hoverlayer .hovertext')?.textContent"
    return tab.wait_for(text)


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


def test_hovers_show_the_numbers_of_the_result(made, some_runs, page, tmp_path):
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
        tab.move(1, 1)
        draw(tab, "differences")
        (row,) = [
            r
            for r in pooled(runs_in_folder(made.output_dir), ["gsm8k"])
            if r["to"] == "full" and r["value"] == alps["evals"]["gsm8k"]["accuracy"] - 0.75
        ]
        text = hover(tab, point.replace("#tradeoff", "#differences") % alps["key"])
        low, high = (f"{row[end]:.4g}" for end in ("low", "high"))
        assert f"{row['value']:.4g} [{low}, {high}]p {row['p']}" in text
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


def test_equal_scores_have_equal_ranks(some_runs, page, tmp_path):
    path = RunFolder(some_runs["alps"].folder).heads_path
    heads = json.loads(path.read_text())
    heads["scores"] = scores = [[0.5, 0.25, 0.0, 0.25, 0.0, 0.0], *[[0.0] * 6] * 3]
    path.write_text(json.dumps(heads))
    with browser(tmp_path) as tab:
        show(tab, page(), f"#a={some_runs['alps'].key}&mode=rank")
        draw(tab, "heads")
        z = tab.evaluate("document.querySelector('#heads .plot').data[0].z")
    assert z == rankdata([[-s for s in row] for row in scores], axis=None).reshape(4, 6).tolist()
