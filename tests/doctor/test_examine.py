"""The order of the checks, and checks that break."""

import re
from pathlib import Path

import pytest

from alps.doctor import examine as examine_module
from alps.doctor.commands import within
from alps.doctor.examine import SECTIONS, examine
from alps.doctor.finding import CHECKS, Finding


def test_every_check_has_a_section_and_a_test(make_context):
    modules = {check.__module__.rpartition(".")[2] for check in CHECKS}
    assert modules == set(SECTIONS)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not [c.__name__ for c in CHECKS if not re.search(rf"\b{c.__name__}\b", tests)]


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(make_context, monkeypatch):
    def broken(context):
        yield Finding(name="before", state="ok", text="fine")
        raise RuntimeError("one\ntwo")

    def after(context):
        yield Finding(name="after", state="ok", text="fine")

    broken.__module__ = after.__module__ = "alps.doctor.disk"
    monkeypatch.setattr(examine_module, "CHECKS", [broken, after])
    context = make_context()
    found = list(examine(context))
    assert [(title, f.name, f.state) for title, f in found] == [
        ("Disk", "before", "ok"), ("Disk", "broken", "warning"), ("Disk", "after", "ok"),
    ]  # fmt: skip
    assert found[1][1].text == "could not be checked (RuntimeError: one two)"
    assert context.findings == [finding for _, finding in found]


def test_a_finding_is_one_line():
    finding = Finding(name="a", state="ok", text="b\n  c", remedy="d")
    assert finding.sentence == "a: b c (d)"


def test_calls_have_a_limit():
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    assert within(5, lambda: None) is None
