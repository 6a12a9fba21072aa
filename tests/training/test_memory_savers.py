"""Settings that save memory: the same training, kept in less room."""

import pytest
import torch
from safetensors.torch import load_file

from alps.base.serialization import SettingsError
from alps.evals.run_models import trained_context
from alps.execute import execute
from alps.models.apply import merge
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.runs.folder import RunFolder
from alps.training.fit import fit
from alps.training.restore import restore, scorable_checkpoint

HEADS_ONLY = ("method=random", "scope=heads_only", "ratio=0.2", "optim.max_steps=3")


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(run.folder).weights_path)


def test_activation_checkpointing_ends_in_the_same_weights(make_run):
    runs = [
        make_run(*HEADS_ONLY, f"trainer.activation_checkpointing={on}", f"output_dir=o{on}")
        for on in ("true", "false")
    ]
    assert runs[0].key == runs[1].key
    for run in runs:
        execute(run, fit)
    assert weights(runs[0]).keys() == weights(runs[1]).keys()
    assert all(torch.equal(t, weights(runs[1])[n]) for n, t in weights(runs[0]).items())


def test_logits_in_chunks_end_in_the_same_weights(make_run):
    runs = [
        make_run("method=full", f"trainer.loss_chunk={size}", f"output_dir=o{size}")
        for size in ("null", "10")
    ]
    assert runs[0].key == runs[1].key
    for run in runs:
        execute(run, fit)
    torch.testing.assert_close(weights(runs[1]), weights(runs[0]), rtol=1e-4, atol=2e-6)


def test_a_bf16_base_has_float32_rows_and_frozen_bits(make_run):
    run = make_run(*HEADS_ONLY, "optim.frozen_dtype=bfloat16")
    assert run.key != make_run(*HEADS_ONLY).key
    execute(run, fit)
    assert {t.dtype for t in weights(run).values()} == {torch.float32}
    model, base = trained_context(run).model, load_model(materialize(run.model)).bfloat16()
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    plain = dict(base.named_parameters())
    assert all(torch.equal(p, plain[n]) for n, p in frozen.items())
    rows = next(t for n, t in weights(run).items() if n.endswith("rows"))
    assert not torch.equal(rows, rows.bfloat16().float()), "rows were rounded on the way"


@pytest.mark.parametrize("kept", ["bfloat16", "nf4"])
@pytest.mark.parametrize("method", [HEADS_ONLY, ("method=lora", "optim.max_steps=3")])
def test_merged_weights_are_float32_whatever_the_base_was_kept_in(make_run, method, kept):
    run = make_run(*method, f"optim.frozen_dtype={kept}")
    execute(run, fit)
    merged, base = merge(restore(run)).state_dict(), load_model(materialize(run.model)).state_dict()
    scored = load_file(scorable_checkpoint(run))
    assert {t.dtype for t in merged.values()} == {torch.float32}
    changed = {n for n, t in merged.items() if not torch.equal(t, base[n])}
    assert changed and changed <= scored.keys()
    assert all(torch.equal(t, merged[n]) for n, t in scored.items())


@pytest.mark.parametrize("settings", [("method=full",), ("method=random", "scope=rest_trains")])
def test_a_bf16_base_is_refused_where_whole_matrices_train(make_run, settings):
    with pytest.raises(SettingsError, match=r"frozen_dtype=bfloat16 .* scope=heads_only"):
        make_run(*settings, "optim.frozen_dtype=bfloat16")


def test_the_task_model_of_a_bf16_run_trains_in_full(make_run):
    run = make_run("method=alps", "scope=heads_only", "optim.frozen_dtype=bfloat16")
    task = run.task_run()
    assert task is not None and task.optim.frozen_dtype == "float32"


def test_an_automatic_micro_batch_changes_no_key_and_no_result(make_run):
    auto, given = (
        make_run(*HEADS_ONLY, f"trainer.micro_batch_size={size}", f"output_dir=o{size}")
        for size in ("auto", 8)
    )
    assert auto.key == given.key
    for run in (auto, given):
        execute(run, fit)
    for name, tensor in weights(auto).items():
        torch.testing.assert_close(tensor, weights(given)[name])


def test_every_run_tells_its_operations_and_predicted_memory(make_run):
    run = make_run(*HEADS_ONLY)
    result = execute(run, fit)
    assert 0 < result.flops_vs_full < 1
    assert result.flops_per_token_forward > 0 and result.predicted_memory_bytes > 0
    assert read_geometry(materialize(run.model)).count(0.2) == result.num_heads_selected


def test_the_preset_for_one_gpu_composes_for_the_papers_models(make_run):
    from alps.config.build import build, compose_config

    for model in ("llama3_2_1b", "llama3_1_8b"):
        run = build(compose_config([f"model={model}", "preset=gpu24", "evals=none"]))
        assert run.optim.frozen_dtype == "bfloat16" and run.method.scope == "heads_only"
        assert run.trainer.activation_checkpointing and run.trainer.micro_batch_size == "auto"
        assert run.task_run().method.name == "lora"
