import pytest

from alps.launch.slurm_settings import Slurm, minutes
from alps.plain import SettingsError, from_plain


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
        from_plain(wrong, Slurm, "hydra.launcher")
    del wrong["partitoin"]
    with pytest.raises(SettingsError) as refused:
        from_plain(wrong, Slurm, "hydra.launcher")
    assert len(refused.value.problems) == 3, refused.value
    assert all(p.startswith("hydra.launcher.") for p in refused.value.problems)
    (short,) = Slurm(time=2, signal_seconds=120).problems()
    assert "signal_seconds=120" in short
