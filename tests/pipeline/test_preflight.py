import json
import logging
import shutil

import pytest
from safetensors.torch import load_file, save_file

from alps.base.cache import cache_dir
from alps.base.serialization import SettingsError
from alps.models.checkpoint import materialize
from alps.pipeline.preflight import RunCheck, check


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))


def test_rows_that_do_not_fit_are_refused_before_a_folder_exists(make_run, tmp_path):
    run = make_run("method=full", "data.max_length=9")
    with pytest.raises(ValueError, match=r"none of the 24 rows fits data\.max_length=9 tokens"):
        check(run)
    assert not (tmp_path / "outputs").exists()


def test_the_rows_are_encoded_when_training_begins(make_run):
    check(make_run("method=full"))
    assert len(list((cache_dir() / "encoded").iterdir())) == 1


def test_the_rows_of_a_task_model_of_other_data_are_encoded_too(make_run):
    check(make_run("method=alps", "task_model=fewer_data"))
    assert len(list((cache_dir() / "encoded").iterdir())) == 2


def test_nothing_is_encoded_where_nothing_trains(make_run):
    check(make_run("method=full"), trains=False)
    assert not (cache_dir() / "rows").exists()
    check(make_run("method=full", "evals=mini"), trains=False)  # with the held-out loss
    assert (cache_dir() / "rows").exists() and not (cache_dir() / "encoded").exists()


def test_what_is_left_out_is_told(make_run, tmp_path, caplog):
    rows = [{"instruction": "x" * n, "input": "", "output": "y" * (n % 2)} for n in range(1, 41)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    local = ("data=alpaca", f"data.path={path}", "data.test_fraction=0", "data.max_length=180")
    with caplog.at_level(logging.INFO, "alps.pipeline.preflight"):
        check(make_run("method=full", *local, "data.max_examples=null"))
    (told,) = caplog.messages
    assert told.startswith("data=alpaca: 20 training rows, ")
    assert told.endswith(" of them cut to fit; left out: 20 empty answer")
    check(make_run("method=full", "data.max_examples=20"))
    assert len(caplog.messages) == 1, "nothing was left out of the mini data"


def test_a_context_that_is_shorter_than_the_rows_is_told(make_run, caplog):
    short = ("model.random.max_position_embeddings=280", "method=full")
    with caplog.at_level(logging.WARNING, "alps.pipeline.preflight"):
        check(make_run(*short))
    (told,) = caplog.messages
    assert "rows are longer than the model's context of 280 tokens" in told
    assert "as if data.max_length=512 were 280" in told
    caplog.clear()
    check(make_run(*short, "data.max_length=250"))
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


def test_a_context_that_no_row_fits_is_refused(make_run, tmp_path):
    run = make_run("model.random.max_position_embeddings=64", "method=full")
    with pytest.raises(
        ValueError, match=r"fits the model's context of 64 tokens \(data.max_length"
    ):
        check(run)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("trains", [True, False])
def test_answers_that_fill_the_context_are_refused(make_run, tmp_path, trains):
    """Before anything trains, not when it is done."""
    run = make_run("model.random.max_position_embeddings=96", "method=full", "evals=mini")
    with pytest.raises(SettingsError) as told:
        check(run, trains=trains)
    assert told.value.problems == [
        "benchmark mini_math: answers of up to 96 tokens leave no room for a prompt in the "
        "model's context of 96 tokens: max_new_tokens must be smaller"
    ]
    assert not (tmp_path / "outputs").exists()


def test_a_bad_row_is_told_before_the_model_is_fetched(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "alps.pipeline.preflight.materialize", lambda _: pytest.fail("the model is fetched")
    )
    path = tmp_path / "rows.jsonl"
    path.write_text("no JSON\n")
    with pytest.raises(ValueError, match="JSON"):
        check(make_run("data=jsonl", f"data.path={path}", "data.task=math"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("./nope", r"task_model\.path=\./nope is neither a folder nor a hub id"),
        ("empty", r"empty is not a model folder"),
    ],
)
def test_a_task_model_that_is_none_is_told_before_the_model_is_fetched(
    make_run, tmp_path, monkeypatch, place, expected
):
    (tmp_path / "empty").mkdir()
    run = make_run("task_model=readily", f"task_model.path={place}")
    monkeypatch.setattr(
        "alps.pipeline.preflight.materialize", lambda _: pytest.fail("the model is fetched")
    )
    with pytest.raises(ValueError, match=expected):
        check(run)


def test_outputs_that_cannot_be_written_are_told_first(make_run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        "alps.pipeline.preflight.training_examples", lambda _: pytest.fail("rows are read")
    )
    for place in ("file", "file/deeper", "x" * 256):
        run = make_run("method=full", output_dir=str(tmp_path / place))
        with pytest.raises(ValueError, match=r"output_dir=.* cannot be written to"):
            check(run)


def test_what_a_benchmark_lacks_is_told_before_a_folder_exists(make_run, tmp_path):
    chosen = [f"+evals/benchmark@evals.benchmarks.{n}={n}" for n in ("gsm8k", "mmlu")]
    run = make_run("method=full", *chosen, f"evals.data_dir={tmp_path}")
    with pytest.raises(SettingsError) as told:
        check(run)
    first, second = told.value.problems
    assert "gsm8k" in first and "gsm8k/test.jsonl" in first and "mmlu" in second
    assert not (tmp_path / "outputs").exists()


def test_the_models_own_template_must_exist(make_run, monkeypatch):
    from alps.pipeline import preflight

    run = make_run("method=full", "evals=mini", "evals.protocol=meta")
    check(run, trains=False)
    monkeypatch.setattr(preflight, "_has_chat_template", lambda run: False)
    with pytest.raises(ValueError, match=r"protocol=meta .* tokenizer of tiny has none"):
        check(run, trains=False)


def test_vllm_is_looked_for_first(make_run):
    run = make_run("method=full", "evals=mini", "evals.backend=vllm")
    with pytest.raises(ValueError, match="needs the vllm package and a GPU"):
        check(run, trains=False)


def test_what_is_evaluated_already_needs_nothing(make_run, tmp_path, monkeypatch):
    from alps.evals.held_out import HeldOut
    from alps.evals.run_models import evaluate_base

    run = make_run("evals=mini", "evals.limit=2")
    evaluate_base(run)
    monkeypatch.setattr(HeldOut, "ready", lambda *_: pytest.fail("asked"))
    check(run, trains=False)


@pytest.fixture
def incomplete(make_run, tmp_path):
    """The tiny model without the MLP of one layer."""
    folder = tmp_path / "incomplete"
    shutil.copytree(materialize(make_run().model), folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "layers.1.mlp" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("trains", [True, False])
def test_an_incomplete_base_is_refused_before_a_folder_exists(
    make_run, tmp_path, incomplete, trains
):
    run = make_run("method=random", "scope=heads_only", f"model={incomplete}")
    with pytest.raises(ValueError, match=r"lacks 3 tensors \(model\.layers\.1\.mlp\.down_proj"):
        check(run, trains=trains)
    assert not (tmp_path / "outputs").exists()


def test_a_task_model_needs_q_k_and_v_only(make_run, tmp_path, incomplete):
    given = ("task_model=readily", f"task_model.path={incomplete}")
    check(make_run("method=alps", *given))
    tensors = load_file(incomplete / "model.safetensors")
    tensors.pop("model.layers.1.self_attn.k_proj.weight")
    save_file(tensors, incomplete / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"has no tensor model\.layers\.1\.self_attn\.k_proj"):
        check(make_run("method=alps", *given))


def test_what_one_run_has_passed_the_next_of_a_command_skips(make_run, monkeypatch):
    from alps.pipeline import preflight

    encoded = []
    monkeypatch.setattr(preflight, "_encode", lambda run, *_: encoded.append(run.seed))
    done = {}
    for seed in (0, 1):
        RunCheck(make_run("method=full", seed=seed), done=done).check_model()
    assert encoded == [0]
    check(make_run("method=full", seed=2))
    assert encoded == [0, 2], "another command checks anew"


def test_what_one_run_has_failed_the_next_reports_too(make_run):
    done = {}
    for seed in (0, 1):
        run = make_run("method=full", "data.max_length=9", seed=seed)
        with pytest.raises(ValueError, match="none of the 24 rows fits"):
            RunCheck(run, done=done).check_model()
