import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

from alps.report.page.content import About, page_content
from alps.report.page.page_run import runs_in_folder
from alps.report.page.write import SCRIPTS, json_text, write_page

LARGEST = 15_000_000


class Reader(HTMLParser):
    """Elements of a page with their attributes, and the texts of scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.scripts, self.in_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.in_script = False

    def handle_data(self, data):
        if self.in_script:
            self.scripts[-1] += data


def test_json_in_a_script_ends_no_script():
    hostile = "</script><!--<script> & \u2028\u2029 \ud83d é"
    text = json_text({"a": hostile})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["a"] == hostile.replace("\ud83d", "?")


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(hostile_run, some_runs, page):
    found = Reader(page().read_text(encoding="utf-8"))
    for tag, attributes in found.elements:
        assert not {"src", "href", "action", "data", "srcset"} & attributes.keys(), (
            tag,
            attributes,
        )
        assert not [name for name in attributes if name.startswith("on")]
        assert tag not in ("img", "link", "iframe", "object", "embed")
    (policy,) = [a["content"] for _, a in found.elements if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ") and "http" not in policy
    data, *scripts = found.scripts
    assert json.loads(data)["runs"]
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(scripts) == 2


def test_every_script_is_packaged_and_none_writes_markup():
    folder = files("alps.report.page") / "script"
    assert sorted(f"{name}.js" for name in SCRIPTS) == sorted(f.name for f in folder.iterdir())
    for file in folder.iterdir():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|https?:", file.read_text()
        )


def test_a_title_is_text(made, some_runs):
    about = About(title="<b>{{data}}", source="", command="")
    write_page(page_content([], about), made.output_dir / "a" / "index.html")
    text = (made.output_dir / "a" / "index.html").read_text()
    assert "<title>&lt;b&gt;{{data}}</title>" in text


def test_five_hundred_runs_fit(synthetic, tmp_path):
    synthetic.write_runs(tmp_path, 500, points=200, documents=4)
    runs = runs_in_folder(tmp_path)
    assert len(runs) == 500
    write_page(page_content(runs, About(title="", source="", command="")), tmp_path / "index.html")
    assert 5_000_000 < (tmp_path / "index.html").stat().st_size < LARGEST
