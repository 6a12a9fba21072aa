"""Trainings on two ranks, replicated and sharded, are evaluated as on one rank."""

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from alps.base.atomic import write_json
from alps.evals.callback import EvaluationCallback
from alps.execute import execute
from alps.launch.ranks import evaluate_on_devices, fit_on_devices
from alps.runs.completion import weights_fingerprint
from alps.runs.folder import RunFolder
from alps.runs.metrics import read_metrics
from alps.runs.result import RunFailed
from alps.settings.infrastructure import Evals
from alps.training.fit import fit

BENCHMARKS = ("held_out", "mini_math", "arc_challenge", "mini_code")
"""Built in; of lm-eval, with generation and with likelihoods; of EvalPlus, with generation."""

SETTINGS = (
    "model=tiny", "data.max_examples=17", "ratio=0.3", "optim.epochs=2", "optim.lr=0.01",
    "trainer.accelerator=cpu", "trainer.micro_batch_size=2", "trainer.progress=off",
    "evals.limit=3", "evals.epoch_limit=2", "evals.every_n_epochs=1",
)  # fmt: skip

LIKELIHOODS = ("held_out", "arc_challenge")
METHODS = {"random": (), "full": ("evals.precision=bf16",), "lora": ()}
CASES = [("ddp", "random"), *(("fsdp", method) for method in METHODS)]

HELD_OUT = "evals/held_out/answer_tokens/losses.json"

TRAIN = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from alps.launch.worker import train
from alps.runs.folder import RunFolder

ports, *folders = sys.argv[1:]
for port, folder in zip(ports.split(","), folders, strict=True):
    os.environ["MASTER_PORT"] = port
    train(RunFolder(Path(folder)))
    dist.destroy_process_group()
"""


def write_documents(folder: Path, choices: int = 0) -> Path:
    """Six questions of ARC; the second has an answer of `choices` more letters."""
    rows = [
        {
            "id": str(n),
            "question": f"Which is number {n}?",
            "choices": {"text": ["red", "green" + "n" * choices * (n == 1)], "label": ["A", "B"]},
            "answerKey": "AB"[n % 2],
        }
        for n in range(6)
    ]  # fmt: skip
    path = folder / "arc_challenge" / "test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def build_run(output_dir: Path, documents: Path, *settings: str, benchmarks=BENCHMARKS):
    from alps.config.build import build, compose_config

    own = [f"evals=[{','.join(benchmarks)}]", f"evals.data_dir={documents}"]
    if "arc_challenge" in benchmarks:
        own.append("evals.benchmarks.arc_challenge.splits.test.num_rows=6")
    run = build(compose_config([*SETTINGS, *own, f"output_dir={output_dir}", *settings]))
    short = [
        replace(b, max_new_tokens=16) if b.name.startswith("mini") else b
        for b in run.evals.benchmarks
    ]
    return replace(run, evals=replace(run.evals, benchmarks=tuple(short), skip_unprotected=True))


def on_two_ranks(preloaded, cwd: Path, folders: list[RunFolder]) -> None:
    """Trains and evaluates in two processes that find each other as torchrun's do."""
    sockets = [socket.socket() for _ in folders]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = ",".join(str(each.getsockname()[1]) for each in sockets)
    for each in sockets:
        each.close()
    environment = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    arguments = ("-c", TRAIN, ports, *(str(folder.path) for folder in folders))
    ranks = [
        preloaded.start(
            *arguments,
            cwd=cwd,
            joined=True,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    output = "\n".join(rank.communicate(timeout=300)[0] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], output


@pytest.fixture(scope="module")
def trained(tmp_path_factory, preloaded):
    """Runs by strategy and method: on one rank, and on two, also without any evaluation."""
    root = tmp_path_factory.mktemp("sharded")
    documents = write_documents(root / "documents")
    runs = {}
    for method, settings in METHODS.items():
        own = BENCHMARKS if method == "random" else LIKELIHOODS
        run = build_run(root / "single", documents, f"method={method}", *settings, benchmarks=own)
        execute(run, lambda run: fit(run, [EvaluationCallback(run)]))
        runs["single", method] = run
        for name in ("ddp", "fsdp", "unexamined") if method == "random" else ("fsdp",):
            strategy = "fsdp" if name == "unexamined" else name
            trainer = replace(run.trainer, devices=2, strategy=strategy)
            several = replace(run, trainer=trainer, output_dir=str(root / name))
            if name == "unexamined":
                several = replace(several, evals=Evals())
            runs[name, method] = several
            folder = RunFolder(several.folder)
            folder.path.mkdir(parents=True)
            folder.write_run(several)
            if (heads := RunFolder(run.folder).read_heads()) is not None:
                write_json(folder.heads_path, heads.to_json())
    several = [RunFolder(r.folder) for (name, _), r in runs.items() if name != "single"]
    on_two_ranks(preloaded, root, several)
    return runs


def evaluations(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("evals/*/*.json"))]
    return {each["benchmark"]["name"]: each for each in found}


def samples(folder: Path) -> dict[str, str]:
    """Everything that was asked, answered and judged, to the last bit of a likelihood."""
    names = ("samples*.jsonl", "losses.json")
    return {p.name: p.read_text() for name in names for p in (folder / "evals").rglob(name)}


def copied(run, folder: Path, **changes):
    """The trained run in another place, without its evaluations."""
    again = replace(run, output_dir=str(folder), **changes)
    shutil.copytree(run.folder, again.folder, ignore=shutil.ignore_patterns("evals", "epochs"))
    return again


def asked(run) -> set[str]:
    return {benchmark.name for benchmark in run.evals.allowed}


@pytest.mark.parametrize(("strategy", "method"), CASES)
def test_the_end_of_a_training_is_what_one_rank_says_of_its_weights(
    trained, tmp_path, strategy, method
):
    run = trained[strategy, method]
    one = copied(run, tmp_path, trainer=replace(run.trainer, devices=1))
    assert not evaluations(one.folder)
    execute(one, lambda run: pytest.fail("it trained again"))
    found, expected = evaluations(run.folder), evaluations(one.folder)
    assert found.keys() == expected.keys() == asked(run) >= {*LIKELIHOODS}
    for name in expected:
        for field in ("metrics", "num_documents", "uncertainty", "weights", "precision"):
            assert found[name][field] == expected[name][field], (name, field)
        assert found[name]["weights"] == weights_fingerprint(run)
        assert found[name]["precision"] == ("bf16" if method == "full" else "32")
    assert samples(run.folder) == samples(one.folder)
    assert len(samples(one.folder)) >= len(asked(run))


@pytest.mark.parametrize(("strategy", "method"), CASES)
def test_epochs_are_those_of_one_rank(trained, strategy, method):
    one, two = (trained[name, method].folder for name in ("single", strategy))
    assert [path.name for path in (two / "epochs").iterdir()] == ["001"], "the last one is the end"
    # In bfloat16, weights that differ by a rounding error can have other neighbours.
    tolerance = 2e-3 if method == "full" else 1e-5
    for folders in ((one / "epochs/001", two / "epochs/001"), (one, two)):
        expected, found = map(evaluations, folders)
        assert found.keys() == expected.keys() == asked(trained[strategy, method])
        for name in expected:
            assert found[name]["num_documents"] == expected[name]["num_documents"]
            assert found[name]["metrics"] == pytest.approx(
                expected[name]["metrics"], rel=tolerance, abs=tolerance
            )
    first, last = (evaluations(f)["held_out"] for f in (two / "epochs/001", two))
    assert first["num_documents"] == 2 and last["num_documents"] == 3
    losses = [json.loads((f / HELD_OUT).read_text())["losses"] for f in (two / "epochs/001", two)]
    assert sum(losses[0]) - 1 > sum(losses[1][:2]), "each epoch's own weights are evaluated"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_both_ranks_answer(trained, strategy):
    run = trained[strategy, "random"]
    for folder in (run.folder, run.folder / "epochs" / "001"):
        for name in asked(run) - {"held_out"}:
            answers = folder / "evals" / name / "alpaca"
            lines = [len(p.read_text().splitlines()) for p in sorted(answers.glob("answers.?.*"))]
            assert len(lines) == 2 and min(lines) > 1, (folder, name)


@pytest.mark.sandbox
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_programs_are_generated_and_judged_once(trained, strategy):
    one, two = (trained[name, "random"].folder for name in ("single", strategy))
    found, expected = (evaluations(folder)["mini_code"] for folder in (two, one))
    assert found["metrics"] == expected["metrics"] and found["num_documents"] == 3
    assert found["generation"]["answers"] == 3 and found["generation"]["tokens"] > 3
    assert found["details"]["failed"] == expected["details"]["failed"]
    assert samples(two)["samples.jsonl"] == samples(one)["samples.jsonl"] != ""


def test_a_sharded_training_goes_on_as_if_nobody_had_looked(trained):
    folders = [RunFolder(trained[name, "random"].folder) for name in ("fsdp", "unexamined")]
    curves = [
        [line["loss"] for line in read_metrics(folder.path / "metrics.csv")] for folder in folders
    ]
    assert len(curves[0]) == 6 and curves[0] == curves[1]
    weights = [load_file(folder.weights_path) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert not (folders[1].path / "epochs").exists()


@pytest.mark.usefixtures("preloaded_ranks")
def test_a_sharded_run_is_evaluated_afterwards_on_two_ranks(trained, tmp_path, alps):
    """By the command line, in workers that torchrun starts."""
    run = copied(trained["fsdp", "random"], tmp_path)
    settings = ("evals=[held_out,mini_math]", "evals.limit=3", "trainer.devices=2")
    free = ("trainer.accelerator=cpu", "trainer.progress=off", f"output_dir={tmp_path}")
    alps("evaluate", f"run={run.key}", *settings, *free, check=0)
    found, expected = (evaluations(r.folder) for r in (run, trained["fsdp", "random"]))
    assert found.keys() == {"held_out", "mini_math"}
    assert all(found[name]["metrics"] == expected[name]["metrics"] for name in found)
    answers = run.folder / "evals/mini_math/alpaca"
    assert {p.name for p in answers.glob("answers.*")} == {"answers.0.jsonl", "answers.1.jsonl"}
    assert RunFolder(run.folder).status()["state"] == "finished"


TOO_LONG = r"arc_challenge: a choice of 50\d\d tokens does not fit the model's context of 4096"


@pytest.mark.usefixtures("preloaded_ranks")
def test_a_rank_that_fails_amid_a_training_ends_both(tmp_path):
    """The second document is the second rank's; the first waits for its part."""
    documents = write_documents(tmp_path / "documents", choices=5000)
    trainer = ("trainer.strategy=fsdp", "trainer.devices=2")
    benchmarks = ("arc_challenge",)
    run = build_run(tmp_path, documents, "method=random", *trainer, benchmarks=benchmarks)
    with pytest.raises(RunFailed, match=TOO_LONG):
        execute(run, fit_on_devices)
    folder = RunFolder(run.folder)
    assert "does not fit the model's context" in folder.status()["reason"]
    assert not folder.training_path.exists(), "it failed after the first epoch"
    own = json.loads((folder.path / "ranks" / "1.error.json").read_text())["message"]
    assert own.startswith("arc_challenge: a choice of")


@pytest.mark.usefixtures("preloaded_ranks")
def test_a_rank_that_fails_in_an_evaluation_ends_both(trained, tmp_path):
    documents = write_documents(tmp_path / "documents", choices=5000)
    run = copied(trained["fsdp", "random"], tmp_path / "o")
    run = replace(run, evals=replace(run.evals, data_dir=str(documents)))
    with pytest.raises(RunFailed, match=TOO_LONG):
        evaluate_on_devices(run, trained=True)
    assert set(evaluations(run.folder)) == asked(run) - {"arc_challenge", "mini_code"}
