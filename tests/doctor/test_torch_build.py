"""The probe of torch, on the real one and on packages of that name that fail."""

from pathlib import Path

import pytest

from alps.doctor import torch_build
from alps.doctor.torch_build import probe_torch

OLD_DRIVER = """
import types, warnings
__version__ = "2.13.0+cu130"
version = types.SimpleNamespace(cuda="13.0", hip=None)
def available():
    warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found 11040)")
    return False
cuda = types.SimpleNamespace(is_available=available)
"""
TWO_GPUS = """
import types
__version__ = "2.13.0+cu130"
version = types.SimpleNamespace(cuda="13.0", hip=None)
gpu = types.SimpleNamespace(name="NVIDIA A100", total_memory=85e9, major=8, minor=0)
cuda = types.SimpleNamespace(
    is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda i: gpu
)
"""


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(source: str) -> None:
        (tmp_path / "path" / "torch").mkdir(parents=True)
        (tmp_path / "path" / "torch" / "__init__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))

    return make


def test_the_real_torch():
    import torch

    build = probe_torch()
    assert build.problem is None and build.version == torch.__version__
    assert len(build.gpus) == torch.cuda.device_count()


def test_the_warning_of_a_driver_that_is_too_old_is_kept(fake_torch):
    fake_torch(OLD_DRIVER)
    build = probe_torch()
    assert (build.cuda, build.gpus) == ("13.0", []) and "too old" in build.warnings[0]


def test_gpus(fake_torch):
    fake_torch(TWO_GPUS)
    gpu, _ = probe_torch().gpus
    assert (gpu.name, gpu.capability, gpu.has_bfloat16) == ("NVIDIA A100", (8, 0), True)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise OSError('libcudart.so.13 is not there')", "libcudart.so.13 is not there"),
        ("import os; os._exit(3)", "ends with exit code 3"),
        ("import os; os._exit(0)", "prints something else"),
        ("import time; time.sleep(60)", "does not answer within 0.5 s"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_described(fake_torch, monkeypatch, source, problem):
    monkeypatch.setattr(torch_build, "SECONDS", 0.5 if "sleep" in source else 60)
    fake_torch(source)
    assert problem in (probe_torch().problem or "")
