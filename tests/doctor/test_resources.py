"""Limits of cgroups of both versions, as the kernel writes them."""

from pathlib import Path

import pytest

from alps.doctor import resources
from alps.doctor.resources import cpu_cores, main_memory

MEMINFO = "MemTotal:       65536000 kB\nMemFree: 100 kB\nMemAvailable:   32768000 kB\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes /proc and /sys/fs/cgroup."""
    monkeypatch.setattr(resources, "PROC", tmp_path / "proc")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")

    def write(files: dict[str, str]) -> None:
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_limits_the_machine_counts(kernel):
    kernel(
        {"proc/self/cgroup": "0::/\n", "cgroup/memory.max": "max\n", "cgroup/cpu.max": "max 1\n"}
    )
    memory = main_memory()
    assert memory and (memory.total, memory.free) == (65536000 * 1024, 32768000 * 1024)
    assert not memory.limited and cpu_cores().quota is None


def test_the_smallest_limit_of_the_groups_above_counts(kernel):
    kernel({
        "proc/self/cgroup": "0::/job/step\n",
        "cgroup/job/memory.max": "8000000000\n",
        "cgroup/job/memory.current": "3000000000\n",
        "cgroup/job/step/memory.max": "max\n",
        "cgroup/job/cpu.max": "150000 100000\n",
    })  # fmt: skip
    memory = main_memory()
    assert memory and (memory.total, memory.free, memory.limited) == (8 * 10**9, 5 * 10**9, True)
    assert cpu_cores().quota == 1.5


def test_version_1(kernel):
    kernel({
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n",
        "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cgroup/memory/docker/1/memory.limit_in_bytes": "4000000000\n",
        "cgroup/memory/docker/1/memory.usage_in_bytes": "1000000000\n",
        "cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "200000\n",
        "cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    memory = main_memory()
    assert memory and (memory.total, memory.free) == (4 * 10**9, 3 * 10**9)
    assert cpu_cores().quota == 2


def test_a_kernel_that_says_nothing(kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "PROC", tmp_path / "nothing")
    assert main_memory() is None and cpu_cores().quota is None
