"""Versions and optional packages, each missing or out of range once."""

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from alps.doctor import packages
from alps.doctor.packages import (
    alps_version,
    bitsandbytes,
    declared,
    embedded_model,
    local_loggers,
    python,
    required_packages,
    vllm,
    wandb,
)


def test_python_against_the_range_of_pyproject(found, monkeypatch):
    assert [f.state for f in found(python)] == ["ok"]
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.4")
    (finding,) = found(python)
    assert finding.state == "missing" and "3.10.4, but alps needs >=3.11" in finding.text


def test_code_with_changes_or_not_installed_is_a_warning(found, monkeypatch):
    monkeypatch.setattr(packages, "git_state", lambda: ("0123456789abcdef", False))
    (finding,) = found(alps_version)
    assert finding.state == "ok" and "commit 0123456789," in finding.text
    monkeypatch.setattr(packages, "git_state", lambda: ("0123456789abcdef", True))
    assert [f.state for f in found(alps_version)] == ["warning"]
    monkeypatch.setattr(packages, "git_state", lambda: (None, None))
    monkeypatch.setattr(packages, "version", not_installed)
    (finding,) = found(alps_version)
    assert finding.state == "warning" and finding.remedy == "pip install -e ."


def test_the_package_of_the_default_model(found, monkeypatch):
    assert [f.state for f in found(embedded_model)] in (["ok"], ["info"])

    def package_file(self):
        raise ValueError("not installed: pip install it")

    monkeypatch.setattr("alps.settings.model.Model.package_file", package_file)
    assert [f.state for f in found(embedded_model)] == ["info"]
    assert [f.state for f in found(embedded_model, is_default=True)] == ["missing"]


def not_installed(name: str) -> str:
    raise PackageNotFoundError(name)


def test_required_packages_of_this_checkout_are_there(found):
    findings = found(required_packages)
    assert {f.state for f in findings} == {"ok"}
    assert {"torch", "transformers", "pytorch-lightning", "lm-eval"} < {f.name for f in findings}
    assert len(declared()[1]) > 25


def test_without_a_checkout_the_ranges_are_those_of_the_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.alps, "__file__", str(tmp_path / "a/b/c/__init__.py"))
    python_range, requirements = declared()
    assert "3.11" in str(python_range) and {"torch", "peft"} < {r.name for r in requirements}
    assert "pytest" not in {r.name for r in requirements}, "extras are not required"


def test_a_package_out_of_range_or_missing(found, monkeypatch):
    ranges = [Requirement("torch>=99"), Requirement("no-such-package>=1"), Requirement("numpy>=1")]
    monkeypatch.setattr(packages, "declared", lambda: (SpecifierSet(), ranges))
    torch, absent, others = found(required_packages)
    assert (torch.state, torch.remedy) == ("missing", "pip install 'torch>=99'")
    assert f"{version('torch')} is outside of >=99" in torch.text
    assert absent.state == "missing" and "not installed" in absent.text
    assert others.text.startswith("1 are")


@pytest.mark.parametrize(
    ("check", "settings"),
    [
        (bitsandbytes, ["method=lora", "optim.frozen_dtype=nf4"]),
        (vllm, ["evals.backend=vllm"]),
    ],
)
def test_optional_packages_are_missing_only_where_they_are_asked_for(
    found, monkeypatch, check, settings
):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert [f.state for f in found(check)] == ["info"]
    (finding,) = found(check, *settings)
    assert finding.state == "missing" and "pip install" in finding.remedy
    monkeypatch.setattr(packages, "find_spec", lambda name: object())
    monkeypatch.setattr(packages, "version", lambda name: "1.0")
    assert [f.state for f in found(check, *settings)] == ["ok"]


def test_each_local_logger_is_missing_only_where_it_is_asked_for(found, monkeypatch):
    pytest.importorskip("tensorboard")  # else the settings are refused
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert [f.state for f in found(local_loggers)] == ["info", "info"]
    asked, other = found(local_loggers, "logger=tensorboard")
    assert asked.state == "missing" and asked.remedy == "pip install 'alps[tensorboard]'"
    assert other.state == "info"


def test_wandb(found, monkeypatch, tmp_path):
    assert [f.state for f in found(wandb)] == ["info"]
    (finding,) = found(wandb, "logger=wandb")
    assert finding.state == "warning" and "recorded offline" in finding.text
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert [f.state for f in found(wandb, "logger=wandb")] == ["ok"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [f.state for f in found(wandb, "logger=wandb")] == ["warning"]
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    (finding,) = found(wandb)
    assert finding.state == "info" and "pip install" in finding.remedy


def test_a_key_of_wandb_in_a_netrc_file(found, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine other login user password 1\n")
    assert [f.state for f in found(wandb, "logger=wandb")] == ["warning"]
    (tmp_path / "netrc").write_text("machine wandb.example login user password 1\n")
    assert [f.state for f in found(wandb, "logger=wandb")] == ["ok"]
    (tmp_path / "netrc").write_text("machine")  # damaged
    assert [f.state for f in found(wandb, "logger=wandb")] == ["warning"]
