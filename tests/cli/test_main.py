"""The command line as users meet it: separate processes, exit codes, folders, sentences."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ("model=tiny", "data.max_examples=16", "evals.limit=4", "evals.batch_size=4")


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line an error is."""
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["method=nope"], "there is no method=nope"),
        (["ratio=1.5", "method=full"], "ratio must lie in [0, 1], got 1.5"),
        (["ratio=0"], "use method=no_attn"),
        (["data=jsonl", "data.path=missing.jsonl"], "missing.jsonl does not exist"),
        (["data=jsonl", "data.path=rows.jsonl"], "row 2 of rows.jsonl has no field 'output'"),
        (
            ["model=tiny", "task_model=readily", "task_model.path=other"],
            "base and task model differ in shape",
        ),
        (["-m", "method=full,alps", "ratio=0.1,7"], "ratio must lie in [0, 1], got 7"),
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_no_folder(cli, tmp_path, arguments, expected):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "answer": "b"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "other").mkdir()
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "llama", **shape}))
    before = sorted(tmp_path.iterdir())
    done = cli("train", *arguments, check=2)
    assert expected in sentence(done)
    assert sorted(tmp_path.iterdir()) == before


def test_unknown_commands_and_bad_export_arguments(cli):
    assert "did you mean 'train'?" in sentence(cli("trian", check=2))
    assert "to=... is missing" in sentence(cli("export", "run=x", check=2))
    assert "no run in outputs/runs has 'x'" in sentence(cli("export", "run=x", "to=y", check=2))


def test_help_needs_no_torch_and_cfg_job_prints_settings(alps):
    assert "alps train" in alps("--help", check=0).stdout
    code = "import sys; sys.argv = ['alps', 'train', '--cfg', 'job'];"
    code += "from alps.cli.__main__ import main\ntry: main()\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "name: smollm2_135m_q4" in done.stdout


def test_a_sweep_survives_a_failing_point_and_is_free_the_second_time(cli, tmp_path):
    small = (*TINY, "data.max_examples=24")
    sweep = ("train", "-m", *small, "optim.clip_norm=null", "method=no_attn", "optim.lr=1e-3,1e30")
    first = cli(*sweep, check=1)
    assert "the loss became nan" in sentence(first)
    csvs = sorted(tmp_path.glob("outputs/sweeps/*/table.csv"))
    good, bad = csv.DictReader(csvs[0].open())
    assert float(good["held_out/loss"]) > 0 and "loss became nan" in bad["failure"]
    table = csvs[0].with_suffix(".md").read_text()
    assert "| no_attn | — |" in table and "failed: the loss became nan" in table

    result = tmp_path / "outputs/runs" / good["key"] / "result.json"
    stamp = result.stat().st_mtime_ns
    again = cli("train", *small, "optim.clip_norm=null", "method=no_attn", "optim.lr=1e-3", check=0)
    assert result.stat().st_mtime_ns == stamp and "step" not in again.stderr
    assert good["key"] in again.stdout

    listed = cli("runs", "state=failed", check=0).stdout
    assert bad["key"] in listed and good["key"] not in listed


def test_train_evaluate_export(alps, tmp_path):
    alps("train", *TINY, "method=alps", "ratio=0.2", "evals=none", "seed=3", check=0)
    keys = [p.name for p in (tmp_path / "outputs/runs").iterdir()]
    (key,) = [k for k in keys if k.startswith("alps-")]
    assert any(k.startswith("full-") for k in keys), "the task model is a run of its own"
    check_contract(tmp_path / "outputs/runs" / key)

    alps("evaluate", f"run={key[:-3]}", "evals=mini", "evals.limit=2", check=0)
    result = json.loads((tmp_path / "outputs/runs" / key / "result.json").read_text())
    assert set(result["evals"]) == {"held_out", "mini_math"}
    base = alps("evaluate", *TINY, "evals.limit=2", check=0)
    assert "base" in base.stdout

    exported = alps("export", f"run={key}", "format=hf", "to=exported", check=0)
    assert f"{key} is in exported" in exported.stdout
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert model(**tokenizer("2 + 2", return_tensors="pt")).logits.isfinite().all()
    assert "exists already" in sentence(alps("export", f"run={key}", "to=exported", check=2))


def test_a_copied_or_moved_output_folder_is_evaluated_where_it_lies(cli, tmp_path):
    quick = ("evals=none", "method=random", "optim.max_steps=1", "output_dir=x")
    cli("train", "model=tiny", "data.max_examples=16", *quick, check=0)
    (folder,) = (tmp_path / "x/runs").iterdir()
    settled = sentence(cli("evaluate", "run=random", "output_dir=x", "seed=1", check=2))
    assert "seed=1: the run has settings of its own" in settled
    nobody = sentence(cli("evaluate", "run=random", "output_dir=x", "trainer.devices=0", check=2))
    assert "trainer.devices must be at least 1, got 0" in nobody
    assert "run= names no run" in sentence(cli("evaluate", "run=", "output_dir=x", check=2))
    (tmp_path / "deep").mkdir()
    shutil.copytree(tmp_path / "x", tmp_path / "deep/y")
    before = sorted((tmp_path / "x").rglob("*"))
    cli("evaluate", f"run={folder.name}", "evals.limit=2", "output_dir=deep/y", check=0)
    result = json.loads((tmp_path / "deep/y/runs" / folder.name / "result.json").read_text())
    assert set(result["evals"]) == {"held_out", "mini_math"}
    assert sorted((tmp_path / "x").rglob("*")) == before, "the original is left alone"

    shutil.move(tmp_path / "x", tmp_path / "z")
    cli("evaluate", f"run={folder.name}", "evals.limit=2", "output_dir=z", check=0)
    assert not (tmp_path / "x").exists()
    settings = tmp_path / "z/runs" / folder.name / "run.yaml"
    settings.write_text(settings.read_text().replace("seed: 0", "seed: 1"))
    runs = sorted((tmp_path / "z/runs").iterdir())
    done = cli("evaluate", f"run={folder.name}", "output_dir=z", check=2)
    assert "was trained by another version of alps, or on data" in sentence(done)
    assert sorted((tmp_path / "z/runs").iterdir()) == runs, "no other run is made of it"


def check_contract(folder: Path) -> None:
    """The names other programs rely on."""
    result = json.loads((folder / "result.json").read_text())
    assert {
        "key", "model", "data", "method", "ratio", "scope", "seed", "num_trainable",
        "trainable_fraction", "num_heads_selected", "train_seconds", "tokens_per_second",
        "peak_memory_bytes", "final_train_loss", "precision", "evals", "versions", "git_commit",
        "git_dirty", "data_hash", "base_hash", "schema_version",
    } <= set(result)  # fmt: skip
    assert result["key"] == folder.name and result["num_heads_selected"] == 4
    heads = json.loads((folder / "heads.json").read_text())
    assert {
        "heads", "num_layers", "num_heads", "num_kv_heads", "head_dim", "metric", "ratio",
        "base_hash", "task_hash",
    } <= set(heads)  # fmt: skip
    assert len(heads["heads"]) == 4 and heads["metric"] == "pad"
    assert not list(folder.rglob("*.tmp"))


def test_train_py_is_the_same_command(tmp_path):
    script = Path(__file__).resolve().parents[2] / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "method=nope"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "there is no method=nope" in sentence(done)


def test_generated_code_is_not_run_without_sandbox_or_consent(alps, tmp_path):
    settings = ("model=tiny", "data=mini_code", "evals.limit=2", "evals.batch_size=2")
    empty = tmp_path / "bin"
    empty.mkdir()
    bare = {**os.environ, "PATH": str(empty)}
    done = alps("evaluate", *settings, check=0, env=bare)
    assert "mini_code is skipped: generated code needs a sandbox" in done.stderr

    def found(what: str) -> dict:
        files = tmp_path.glob("outputs/evals/*/result.json")
        return {k: v for file in files for k, v in json.loads(file.read_text())[what].items()}

    assert set(found("evals")) == {"held_out"}
    by_name = ("evals=none", "+evals/benchmark@evals.benchmarks.x=mini_code")
    refused = sentence(alps("evaluate", *settings, *by_name, check=2, env=bare))
    assert "mini_code: generated code needs a sandbox" in refused and "apt install" in refused
    done = alps("evaluate", *settings, "evals.allow_unsafe_code=true", check=0, env=bare)
    assert "mini_code executes generated code without any protection" in done.stderr
    assert found("evals")["mini_code"] == {"pass@1": 0.0}
    assert found("uncertainty")["mini_code"]["pass@1"]["high"] == pytest.approx(0.6576, abs=1e-4)


@pytest.mark.sandbox
def test_generated_code_runs_in_a_sandbox_by_default(alps, tmp_path):
    alps("evaluate", "model=tiny", "data=mini_code", "evals.limit=2", check=0)
    (details,) = tmp_path.glob("outputs/evals/*/evals/mini_code/alpaca.json")
    assert json.loads(details.read_text())["details"]["sandbox"] == "bubblewrap"


@pytest.mark.skipif("ALPS_DATA_DIR" not in os.environ, reason="needs ALPS_DATA_DIR")
def test_real_rows_of_gsm8k_train(cli, tmp_path):
    path = Path(os.environ["ALPS_DATA_DIR"]) / "gsm8k" / "test.jsonl"
    fields = ("data.instruction_field=question", "data.answer_field=answer", "data.task=math")
    settings = ("data=jsonl", f"data.path={path}", *fields, "model=tiny", "data.max_examples=16")
    cli("train", *settings, "method=random", "evals.limit=2", "evals.batch_size=2", check=0)
    (result,) = tmp_path.glob("outputs/runs/*/result.json")
    found = json.loads(result.read_text())
    assert found["num_examples"] + found["num_dropped"] == 16
    assert set(found["evals"]) == {"held_out", "mini_math"}
