from dataclasses import replace
from pathlib import Path

import pytest

from alps.config.build import build_assumed, model_choice
from alps.methods.expected_plan import sampled_equivalent
from alps.plan.assumptions import GIB
from alps.plan.cost import (
    BYTE_TOKENS,
    CostEstimator,
    model_shape,
    num_training_examples,
)


def costs(*settings: str) -> CostEstimator:
    return CostEstimator(build_assumed(settings))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("llama3_2_1b", 1_235_814_400),
        ("llama3_2_3b", 3_212_749_824),
        ("llama3_1_8b", 8_030_261_248),
        ("llama2_7b", 6_738_415_616),
        ("qwen2_5_1_5b", 1_543_714_304),
        ("qwen2_5_7b", 7_615_616_512),
        ("smollm2_135m", 134_515_008),
        ("smollm2_135m_q4", 134_515_008),
    ],
)
def test_the_shapes_in_conf_have_the_published_numbers_of_parameters(model, parameters):
    assert model_shape(model_choice(model)).num_parameters == parameters


def test_a_random_model_s_shape_is_the_one_it_gets(make_run):
    from alps.cost.shape import ModelShape
    from alps.models.byte_tokenizer import byte_tokenizer
    from alps.models.checkpoint import materialize

    model = make_run().model
    assert len(byte_tokenizer()) == BYTE_TOKENS
    assert model_shape(model) == ModelShape.read(materialize(model))
    folder = replace(model, path=str(materialize(model)))
    assert model_shape(folder) == model_shape(model)
    assert model_shape(replace(model, path="nobody/has-this")) is None


def test_rows_are_those_that_train(make_run):
    assert (
        num_training_examples(make_run("data=ultrachat", "data.max_examples=null").data) == 205786
    )
    tenth = ("data=alpaca", "data.max_examples=null", "data.fraction=0.1", "data.test_fraction=0")
    assert num_training_examples(make_run(*tenth).data) == 5201
    assert num_training_examples(make_run("data.max_examples=50", "data.fraction=0.3").data) == 15
    assert num_training_examples(make_run("data.max_examples=null").data) == 5000
    Path("rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    own = make_run("data=jsonl", "data.path=rows.jsonl", "data.max_examples=null")
    assert num_training_examples(own.data) is None
    assert costs().estimate(own) is None
    behind = make_run("data=jsonl", "data.path=rows.jsonl", "data.max_examples=7",
                      "data.skip_examples=7")  # fmt: skip
    assert (
        num_training_examples(behind.data) == 7
    )  # as many as asked, where nobody knows of how many
    behind = make_run("data.max_examples=4000", "data.skip_examples=2000")
    assert num_training_examples(behind.data) == 3000


def test_operations_follow_rows_epochs_and_steps(make_run):
    count = costs()
    once = count.estimate(make_run("method=full", "data.max_examples=64"))
    assert once.tokens == 64 * 97
    thrice = count.estimate(make_run("method=full", "data.max_examples=64", "optim.epochs=3"))
    assert thrice.flops == pytest.approx(3 * once.flops)
    stopped = count.estimate(make_run("method=full", "data.max_examples=64", "optim.max_steps=2"))
    assert stopped.flops == pytest.approx(once.flops * 2 * 8 / 64)
    again = count.estimate(
        make_run("method=full", "data.max_examples=64", "trainer.activation_checkpointing=true")
    )
    assert 1.25 * once.flops < again.flops < 1.4 * once.flops


def test_full_llama_at_fp16_is_six_operations_for_each_weight_and_token(make_run):
    run = make_run("model=llama3_2_1b", "data=ultrachat", "data.max_examples=null", "method=full")
    cost = costs("answer_share=1").estimate(run)
    assert cost.flops == pytest.approx(6 * 1_235_814_400 * cost.tokens, rel=0.1)


def test_weights_are_what_trains(make_run):
    count = costs()
    shape = model_shape(make_run().model)
    full, none, heads = (
        count.estimate(make_run(*settings))
        for settings in (["method=full"], ["method=no_attn"], ["method=alps", "scope=heads_only"])
    )
    assert (full.weights, full.qkv) == (4 * shape.num_parameters, 4 * shape.num_qkv)
    assert none.qkv == full.qkv and none.weights == full.weights - full.qkv
    assert heads.weights == heads.qkv < full.qkv
    assert full.resume == 3 * full.weights  # the weights, and two numbers of the optimizer


def test_the_stand_in_for_scored_heads_has_as_many(make_run):
    alps, kl = (make_run(f"method={name}", "ratio=0.3").method for name in ("alps", "kl"))
    random = make_run("method=random").method
    assert (
        sampled_equivalent(alps) == sampled_equivalent(kl) and sampled_equivalent(random) is random
    )
    assert (sampled_equivalent(alps).ratio, sampled_equivalent(alps).scope) == (
        alps.ratio,
        alps.scope,
    )


PAPER = ("optim=paper", "data=ultrachat", "data.max_examples=null")


def test_8b_does_not_fit_and_1b_does(make_run):
    count = costs("gpu=a100_80g")
    small = count.estimate(make_run("model=llama3_2_1b", "method=full", *PAPER))
    assert small.fits and 16 * 1.2e9 < small.memory < 0.85 * 80 * GIB
    whole = ("model=llama3_1_8b", "method=full", "trainer.strategy=ddp", *PAPER)
    large = count.estimate(make_run(*whole, "trainer.micro_batch_size=8"))
    assert (large.fits, large.fitting) == (False, 0) and large.memory > 128e9
    one = count.estimate(make_run(*whole, "trainer.micro_batch_size=1"))
    auto = count.estimate(make_run(*whole, "trainer.micro_batch_size=auto"))
    assert (auto.micro_batch, auto.memory, auto.fits) == (1, one.memory, False)
    assert large.one_row == one.one_row == one.memory < large.memory


def test_devices_share_weights_gradients_and_averages_of_8b(make_run):
    """Of weights, gradients and AdamW's two averages; activations are each device's own."""
    asked = ("model=llama3_1_8b", "method=full", "trainer.micro_batch_size=1", *PAPER)
    eighth, whole = (
        costs().estimate(make_run(*asked, f"trainer.devices={n}")) for n in ("auto", "1")
    )
    state = 16 * 8_030_261_248
    copies, gathered = 2 * (8_030_261_248 - 128256 * 4096), 2 * 2 * 128256 * 4096
    assert whole.memory - eighth.memory == pytest.approx(
        state * 7 / 8 + copies - gathered, rel=0.02
    )
    half = costs("node_devices=4").estimate(make_run(*asked))
    assert half.memory - eighth.memory == pytest.approx(state / 8, rel=1e-3)
    assert costs().estimate(make_run(*asked, "trainer=fsdp", "trainer.devices=4")) == half


def test_auto_is_one_device_where_a_run_fits_else_the_node_sharded(make_run):
    def placed(*settings: str, own=()) -> tuple[int, int]:
        cost = costs(*own).estimate(make_run(*PAPER, *settings))
        return cost.devices, cost.shards

    assert placed("model=llama3_2_1b", "method=full") == (1, 1)
    assert placed("model=llama3_2_3b", "method=full") == (1, 1)
    assert placed("model=llama3_1_8b", "method=full") == (8, 8)
    assert placed("model=llama3_1_8b", "method=full", own=["node_devices=4"]) == (4, 4)
    assert placed("model=llama3_1_8b", "method=full", "trainer.num_nodes=2") == (8, 16)
    assert placed("model=llama3_1_8b", "method=lora") == (1, 1)
    assert placed("model=llama3_2_3b", "method=full", own=["gpu=rtx4090_24g"]) == (8, 8)
    assert placed("model=llama3_2_1b", "method=full", "trainer.num_nodes=2") == (8, 1)
    assert placed("model=llama3_1_8b", "method=full", own=["gpu=laptop"]) == (1, 1)
    assert placed("model=llama3_1_8b", "method=full", "trainer.accelerator=cpu") == (1, 1)
    assert placed("model=llama3_1_8b", "method=full", "trainer.strategy=ddp") == (8, 1)
    assert placed("model=llama3_1_8b", "method=full", "trainer.devices=2") == (2, 2)


def test_auto_takes_as_many_rows_as_fit(make_run):
    asked = ("model=llama3_2_3b", "method=full", *PAPER)
    fixed = costs().estimate(make_run(*asked, "trainer.micro_batch_size=8"))
    assert not fixed.fits and fixed.micro_batch == 8 and 0 < fixed.fitting < 8
    auto = costs().estimate(make_run(*asked, "trainer.micro_batch_size=auto"))
    assert auto.fits and auto.micro_batch == fixed.fitting and auto.memory < 0.85 * 80 * GIB
    assert costs().estimate(make_run(*asked)) == auto  # the default on GPUs
