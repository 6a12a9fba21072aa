import pytest

from alps.base.serialization import SettingsError, from_dict
from alps.launch.slurm.settings import Slurm, minutes


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (90, 90), ("90", 90), ("90:30", 91), ("1:30:00", 90), ("24:00:00", 1440),
        ("2-0", 2880), ("1-02:03", 1563), ("1-02:03:01", 1564),
    ],
)  # fmt: skip
def test_time_limits_are_read_as_sbatch_reads_them(limit, expected):
    assert minutes(limit) == expected


def test_settings_that_cannot_be_asked_for():
    wrong = {"cpus": 0, "mem": "64GB", "time": "soon", "partitoin": "x"}
    with pytest.raises(SettingsError, match="did you mean 'partition'"):
        from_dict(wrong, Slurm, "hydra.launcher")
    del wrong["partitoin"]
    with pytest.raises(SettingsError) as refused:
        from_dict(wrong, Slurm, "hydra.launcher")
    assert len(refused.value.problems) == 3, refused.value
    assert all(p.startswith("hydra.launcher.") for p in refused.value.problems)
    (short,) = Slurm(time=2, signal_seconds=120).problems()
    assert "signal_seconds=120" in short


@pytest.mark.parametrize(
    ("settings", "variable", "expected"),
    [
        ({}, None, False),
        ({"gpus": 0}, None, False),
        ({"gpus": 2}, None, True),
        ({"additional": {"gres": "gpu:a100:2"}}, None, True),
        ({"additional": {"gres": "nvme:1"}}, None, False),
        ({"additional": {"tres_per_task": "gres/gpu:1"}}, None, True),
        ({"additional": {"tres_per_task": "cpu:4"}}, None, False),
        ({"additional": {"gpus_per_task": 1}}, None, True),
        ({"additional": {"gpus-per-task": 1}}, None, True),
        ({"partition": "gpu"}, None, False),
        ({}, "SBATCH_GPUS", True),
        ({}, "SBATCH_CPUS_PER_TASK", False),
    ],
)
def test_whether_a_job_gets_gpus(settings, variable, expected, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, "1")
    assert Slurm(**settings).asks_for_gpus is expected
