"""Labels and colors of reports: they come from the file of a method, and are part of no run."""

import shutil

import pytest

from alps.base.serialization import SettingsError, to_dict
from alps.config import compose, method_styles
from alps.config.build import build, compose_config, explain
from alps.report.style import MethodStyle


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of `conf/method` that tests may change."""
    shutil.copytree(compose.conf_dir() / "method", tmp_path / "method")
    monkeypatch.setattr(method_styles, "conf_dir", lambda: tmp_path)
    return tmp_path / "method"


def test_a_new_file_is_all_that_a_new_label_needs(folder):
    (folder / "new.yaml").write_text("name: brand_new\nreport: {label: New, color: '#123456'}\n")
    found = method_styles.method_styles()
    assert found["brand_new"] == MethodStyle(label="New", color="#123456")
    assert found["lora"] == MethodStyle(label="LoRA", color="#e69f00", hatch="\\\\\\\\")
    assert found["full"].label == "w/ full" and "given" not in found


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("{color: red}", "report.color must be written as #rrggbb, got 'red'"),
        ("{colour: '#000000'}", "method=new: report.colour is not a setting, did you mean 'color'"),
        ("New", "method=new: report must be a group of settings"),
        ("{label: [}", "line 2 of .*cannot be read as YAML"),
    ],
)
def test_a_block_that_cannot_be_used_is_one_sentence(block, said, folder):
    (folder / "new.yaml").write_text(f"name: new\nreport: {block}\n")
    with pytest.raises(SettingsError, match=said):
        method_styles.method_styles()


def test_styles_are_part_of_no_run():
    method = build(compose_config(["method=kl", "model=tiny"])).method
    assert "report" not in to_dict(method)


def test_the_command_line_sets_no_style():
    (said,) = explain(["method.report.label=X"])
    assert said.startswith("method.report.label=X: labels and colors in reports are read from")
