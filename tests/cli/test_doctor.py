"""`alps doctor`: exit codes, sentences, JSON."""

import json
import subprocess
import sys
import time

import pytest

from alps.cli.doctor import doctor
from alps.doctor import context as context_module
from alps.doctor import packages
from alps.doctor.slurm_cluster import COMMANDS, Cluster, parse_partitions
from alps.doctor.torch_build import TorchBuild


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """Without GPU and SLURM, whatever this one has."""
    torch = TorchBuild(version="2.13.0+cpu")
    monkeypatch.setattr(context_module, "probe_torch", lambda: torch)
    monkeypatch.setattr(context_module, "read_cluster", lambda: Cluster(absent=COMMANDS))


def lines(output: str, state: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in output.splitlines() if f"  {state} " in line]


def test_the_demo_can_run_here(cli):
    done = cli("doctor", "evals.limit=2", "experiment=demo", check=0)
    assert lines(done.stdout, "missing") == [] and "Traceback" not in done.stderr
    assert "can run here, on the CPU of this machine" in done.stdout.splitlines()[-1]
    assert [line for line in lines(done.stdout, "ok") if line.startswith("start: outputs, data")]


def test_table_1_cannot_run_here_and_says_why(cli):
    done = cli("doctor", "experiment=table1", check=1)
    missing = lines(done.stdout, "missing")
    assert any(line.startswith("model llama3_1_8b: meta-llama/Llama-3.1-8B@") for line in missing)
    assert any("does not fit: llama3_1_8b" in line for line in missing)
    assert any(line.startswith("benchmark gsm8k: ") for line in missing)
    assert "experiment=table1 cannot run here" in done.stdout.splitlines()[-1]
    assert done.stderr == ""


def test_without_settings_it_is_the_demo_and_its_model(cli, monkeypatch):
    """Without the package of the default model nothing composes; that is a finding."""
    from alps.settings.model import Model

    def package_file(self):
        raise ValueError("the package is not installed: pip install it")

    monkeypatch.setattr(Model, "package_file", package_file)
    done = cli("doctor", check=1)
    (missing,) = lines(done.stdout, "missing")
    assert missing == "embedded model: the package is not installed: pip install it"
    assert "experiment=demo cannot run here" in done.stdout
    done = cli("doctor", "model=tiny", "evals=none", check=0)
    assert any(line.startswith("embedded model") for line in lines(done.stdout, "info"))


def test_json_says_the_same(cli):
    done = cli("doctor", "model=tiny", "evals=none", "format=json", check=0)
    said = json.loads(done.stdout)
    assert said["can_run"] is True and said["runs"] == "model=tiny evals=none"
    assert said["target"]["on_gpu"] is False
    assert {f["state"] for f in said["findings"]} <= {"ok", "info", "warning"}
    assert {"section", "name", "state", "text", "remedy"} == set(said["findings"][0])
    text = cli("doctor", "model=tiny", "evals=none", check=0).stdout
    assert all(f"{f['name']}: " in text for f in said["findings"])
    done = cli("doctor", "model=llama3_2_1b", "evals=none", "format=json", check=1)
    assert json.loads(done.stdout)["can_run"] is False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experiment=nope"], "there is no experiment=nope"),
        (["table1"], "'table1' is not understood"),
        (["ratio=7", "method=alps"], "ratio must lie in"),
        (["gpu=nope"], "gpu=nope is not known"),
        (["format=xml"], "format"),
        (["hydra/launcher=slurm", "hydra.launcher.time=soon"], "is no time limit"),
        (["model.path=folder"], "folder is not a model folder"),
    ],
)
def test_bad_input_is_a_sentence(refused, tmp_path, arguments, expected):
    (tmp_path / "folder").mkdir()
    assert expected in refused(doctor, *arguments)


def test_the_conclusion_says_where_runs_go(cli, monkeypatch):
    nodes = parse_partitions("gpu*|up|1-00:00:00|4|64|500000|gpu:a100:4")
    monkeypatch.setattr(context_module, "read_cluster", lambda: Cluster(partitions=nodes))
    done = cli("doctor", "model=tiny", "evals=none", check=0)
    assert "can run as SLURM jobs (-m hydra/launcher=slurm), on 4 x a100" in done.stdout
    jobs = ("hydra/launcher=slurm", "hydra.launcher.gpus=8")
    done = cli("doctor", "model=tiny", "evals=none", *jobs, check=1)
    assert "cannot run as SLURM jobs; missing or too small: jobs" in done.stdout


def test_a_program_out_of_range_is_exit_code_1(cli, monkeypatch):
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.0")
    done = cli("doctor", "model=tiny", "evals=none", check=1)
    assert "Python: 3.10.0, but alps needs" in done.stdout


def test_nothing_hangs_and_nothing_is_written_without_network(tmp_path):
    """A process of its own, as users start it, with an endpoint that nobody listens on."""
    import os

    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hub"),
        "PATH": str(tmp_path),
    }
    arguments = ("doctor", "model=llama3_2_1b", "data=alpaca", "evals=[gsm8k]", "method=full")
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "alps.cli", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "127.0.0.1:9 cannot be reached: Connection refused" in done.stdout
    assert len(lines(done.stdout, "missing")) >= 3
    assert time.monotonic() - start < 50
    assert sorted(p.name for p in tmp_path.iterdir()) == []
