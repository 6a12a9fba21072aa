"""Settings of the launcher that a command line selects."""

import pytest

from alps.base.serialization import SettingsError
from alps.config.launcher import slurm_settings
from alps.launch.slurm.settings import Slurm


def test_the_launcher_of_a_command_line():
    assert slurm_settings(["method=full"]) is None
    assert slurm_settings(["hydra/launcher=local"]) is None
    assert slurm_settings(["hydra/launcher=slurm"]) == Slurm()
    given = ["hydra/launcher=slurm", "hydra.launcher.gpus=2", "method=full,alps"]
    assert slurm_settings([*given, "+hydra.launcher.additional.reservation=a"]) == Slurm(
        gpus=2, additional={"reservation": "a"}
    )


@pytest.mark.parametrize("setting", ["hydra.launcher.time=soon", "hydra.launcher.gpu=1"])
def test_bad_settings(setting):
    with pytest.raises(SettingsError):
        slurm_settings(["hydra/launcher=slurm", setting])
