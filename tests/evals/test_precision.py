"""`evals.precision`: one model to evaluate, whoever evaluates it, and what really ran on record."""

import json
from pathlib import Path

import pytest
import torch

from alps.cli.evaluate import evaluate as alps_evaluate
from alps.config.build import runs_of
from alps.evals.callback import EvaluationCallback
from alps.evals.precision import bfloat16_copy, evaluation_precision, matmul_precision
from alps.evals.run_models import evaluate_base, trained_context
from alps.execute import execute
from alps.models.apply import apply, cast_frozen
from alps.models.checkpoint import materialize
from alps.models.head_linear import HeadLinear
from alps.models.load import load_model
from alps.pipeline.preflight import check
from alps.runs.folder import RunFolder
from alps.training.fit import fit

SMALL = ("evals=mini", "evals.limit=3", "optim.max_steps=2", "optim.lr=0.01")
LORA = ("method=lora", "optim.frozen_dtype=bfloat16")


def fit_examined(run):
    fit(run, [EvaluationCallback(run)])


@pytest.mark.parametrize(
    ("asked", "settings", "trained", "on_gpu", "expected"),
    [
        ("auto", (), True, False, "32"),
        ("auto", (), True, True, "tf32"),
        ("32", (), True, True, "32"),
        ("tf32", (), True, True, "tf32"),
        ("bf16", (), True, True, "bf16"),
        ("bf16", (), False, False, "bf16"),
        ("auto", LORA, True, True, "bf16"),
        ("auto", LORA, False, False, "32"),
        ("32", LORA, False, False, "32"),
        ("auto", ("evals.backend=vllm",), True, True, "bf16"),
        ("32", ("evals.backend=vllm",), True, True, "32"),
        ("32", ("evals.backend=vllm", *LORA), True, True, "32"),
    ],
)
def test_what_runs(make_run, monkeypatch, asked, settings, trained, on_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    run = make_run(f"evals.precision={asked}", *settings)
    assert run.key == make_run(*settings).key
    assert evaluation_precision(run, trained, on_gpu) == expected


def test_a_gpu_without_tf32_computes_in_float32(make_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    assert evaluation_precision(make_run(), trained=True, on_gpu=True) == "32"
    with pytest.raises(ValueError, match="needs a GPU with TF32"):
        evaluation_precision(make_run("evals.precision=tf32"), trained=True, on_gpu=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("evals.precision=tf32",), "needs a GPU with TF32"),
        (("evals.precision=tf32", "evals.backend=vllm"), "needs evals.backend=hf"),
        ((*LORA, "evals.precision=32"), "frozen_dtype=bfloat16, whose run is evaluated as it was"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(make_run, settings, sentence, monkeypatch):
    monkeypatch.setattr("alps.pipeline.preflight.vllm_unavailable_reason", lambda: None)
    run = make_run("evals=mini", *settings)
    with pytest.raises(ValueError, match=sentence):
        check(run)
    assert not Path(run.output_dir).exists()


def test_tf32_on_a_cpu_is_refused_with_one_sentence(refused):
    settings = ("model=tiny", "evals=mini", "evals.precision=tf32")
    assert "needs a GPU with TF32" in refused(alps_evaluate, *settings)


def test_nothing_is_refused_where_nothing_is_evaluated(make_run):
    check(make_run("evals.precision=tf32"))


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "high"), ("32", "highest")])
def test_tf32_holds_within_the_evaluation_only(precision, inside):
    before = torch.get_float32_matmul_precision()
    try:
        for outside in ("highest", "high"):
            torch.set_float32_matmul_precision(outside)
            with pytest.raises(RuntimeError), matmul_precision(precision):
                assert torch.get_float32_matmul_precision() == inside
                raise RuntimeError
            assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_bfloat16_copy_shares_what_is_so_already_and_keeps_buffers(make_run):
    run = make_run("method=random", "scope=heads_only", "ratio=0.5")
    execute(run, fit)
    folder = RunFolder(run.folder)
    model = apply(load_model(materialize(run.model)), run.method.plan(folder.read_heads())).eval()
    cast_frozen(model, "bfloat16")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    copied = bfloat16_copy(model)
    own = dict(copied.named_parameters())
    assert {p.dtype for p in own.values()} == {torch.bfloat16}
    for name, parameter in model.named_parameters():
        shared = own[name].data_ptr() == parameter.data_ptr()
        assert shared != parameter.requires_grad == own[name].requires_grad
        assert parameter.equal(before[name])
    frequencies = {n: b for n, b in copied.named_buffers() if "inv_freq" in n}
    assert frequencies and {b.dtype for b in frequencies.values()} == {torch.float32}
    assert any(isinstance(module, HeadLinear) for module in copied.modules())
    copied(input_ids=torch.tensor([[1, 2, 3]]))


def test_tied_embeddings_stay_tied(make_run):
    model = load_model(materialize(make_run().model))
    model.config.tie_word_embeddings = True
    model.tie_weights()
    copied = bfloat16_copy(model)
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.float32


CASES = {
    "full": ("method=full",),
    "heads": ("method=random", "scope=heads_only", "ratio=0.5"),
    "lora": ("method=lora",),
    "frozen bfloat16": LORA,
    "frozen nf4": ("method=random", "scope=heads_only", "ratio=0.5", "optim.frozen_dtype=nf4"),
}


@pytest.mark.parametrize("case", CASES)
def test_callback_and_evaluate_see_the_same_bfloat16_model(make_run, tmp_path, monkeypatch, case):
    """To the last bit of every loss, and the training goes on in float32."""
    settings = (*CASES[case], *SMALL, "evals.precision=bf16")
    inside = make_run(*settings, "evals.every_n_epochs=1", output_dir=str(tmp_path / "a"))
    after = make_run(*settings, output_dir=str(tmp_path / "b"))
    execute(inside, fit_examined)
    execute(after, fit)
    weights = [RunFolder(r.folder).weights_path.read_bytes() for r in (inside, after)]
    assert weights[0] == weights[1]
    for name in ("held_out/answer_tokens", "mini_math/alpaca"):
        found, expected = (json.loads((r.folder / f"evals/{name}.json").read_text())
                           for r in (inside, after))  # fmt: skip
        assert found["metrics"] == expected["metrics"]
        assert found["precision"] == expected["precision"] == "bf16"
    losses = [r.folder / "evals/held_out/answer_tokens/losses.json" for r in (inside, after)]
    assert losses[0].read_text() == losses[1].read_text()
    floating = [p for p in trained_context(after).model.parameters() if p.is_floating_point()]
    assert {p.dtype for p in floating} == {torch.bfloat16}


def test_a_stored_evaluation_counts_if_its_precision_was_asked_for_or_none(make_run):
    runs = {p: make_run(*SMALL, f"evals.precision={p}") for p in ("auto", "32", "bf16")}
    path = runs["auto"].base_folder / "evals/mini_math/alpaca.json"

    def evaluated(precision: str) -> tuple[bool, str]:
        """Whether the base model was evaluated again, and the precision on record."""
        before = path.stat().st_mtime_ns if path.exists() else 0
        evaluate_base(runs[precision])
        stored = json.loads(path.read_text())
        return path.stat().st_mtime_ns != before, stored.get("precision")

    assert evaluated("auto") == (True, "32")
    assert evaluated("32") == (False, "32")
    stored = json.loads(path.read_text())
    del stored["precision"]
    path.write_text(json.dumps(stored))
    assert evaluated("32") == (False, None), "of an earlier version"
    assert evaluated("bf16") == (True, "bf16")
    assert evaluated("bf16") == (False, "bf16")
    assert evaluated("auto") == (False, "bf16")
    answers = path.parent / "alpaca" / "answers.0.jsonl"
    assert len(answers.read_text().splitlines()) == 1 + 3, "none of another precision"
    assert evaluated("32") == (True, "32")


@pytest.mark.parametrize("evals", ["evals=mini", "evals=[gsm8k]"])
def test_a_small_gpu_evaluates_in_bfloat16(evals):
    (run,) = runs_of(["model=llama3_1_8b", "preset=gpu24", evals, "method=random"])
    assert run.evals.benchmarks and run.evals.precision == "bf16"
