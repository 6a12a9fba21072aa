"""vLLM itself needs a GPU: what is checked here is what lm-eval's adapter is told."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from alps.data.encoding.encode import encode_example
from alps.data.example import Example
from alps.evals.engine import vllm as vllm_engine
from alps.evals.evaluate import evaluation_context
from alps.evals.run_models import trained_context
from alps.execute import execute
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.training.fit import fit


class FakeVLLM(TemplateLM):
    """The parts of lm-eval's model that are its own: what vLLM is asked, it says back."""

    started = ()
    max_length, max_gen_toks, prefix_token_id, eot_token_id = 300, 256, 1, 1

    def __init__(self, **settings):
        super().__init__()
        FakeVLLM.started = (*FakeVLLM.started, settings)
        self.batch_size = "auto"
        self.asked, self.scored = [], []

    def tok_encode(self, string, add_special_tokens=None, **_):
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens is not False)

    def _model_generate(self, requests, generate, sampling_params):
        assert generate
        self.asked += zip(requests, sampling_params, strict=True)
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=self.says)]) for _ in requests]

    def _loglikelihood_tokens(self, requests, disable_tqdm=False):
        self.scored += [(context, choice) for _, context, choice in requests]
        return [(-1.0, False) for _ in requests]

    def generate_until(self, requests, disable_tqdm=False):
        raise AssertionError("it would encode prompts itself")

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture
def with_vllm(monkeypatch):
    FakeVLLM.started = ()
    vllm_engine._started.cache_clear()
    monkeypatch.setattr(vllm_engine, "vllm_unavailable_reason", lambda: None)
    adapter = ModuleType("lm_eval.models.vllm_causallms")
    adapter.VLLM = FakeVLLM
    monkeypatch.setitem(sys.modules, adapter.__name__, adapter)
    vllm = ModuleType("vllm")
    vllm.SamplingParams = lambda **options: options
    monkeypatch.setitem(sys.modules, "vllm", vllm)


def test_without_the_package_it_is_refused(make_run, tmp_path):
    run = make_run("evals.backend=vllm")
    base = materialize(run.model)
    subject = replace(evaluation_context(run, load_model(base), base), folder=tmp_path)
    with pytest.raises(ValueError, match="needs the vllm package and a GPU"):
        subject.language_model("plain", "x")


def test_it_answers_from_the_checkpoint_and_starts_once(make_run, tmp_path, with_vllm):
    run = make_run("evals.backend=vllm")
    base = materialize(run.model)
    subject = replace(evaluation_context(run, load_model(base), base), folder=tmp_path, weights="w")
    lm = subject.language_model("plain", "x")
    lm.engine.says = subject.tokenizer("an answer")["input_ids"]
    assert lm.generate_until([Instance("generate_until", {}, ("a", {"until": []}), 0)]) == [
        "an answer"
    ]
    subject.language_model("plain", "y")
    (settings,) = FakeVLLM.started
    assert settings["pretrained"] == str(base) and settings["batch_size"] == "auto"
    assert settings["generation_config"] == "vllm", "nothing of the checkpoint's own"
    assert settings["dtype"] == "bfloat16" and subject.precision == "bf16"


def test_it_computes_in_float32_if_asked(make_run, tmp_path, with_vllm):
    run = make_run("evals.backend=vllm", "evals.precision=32")
    base = materialize(run.model)
    subject = replace(evaluation_context(run, load_model(base), base), folder=tmp_path)
    subject.language_model("plain", "x")
    (settings,) = FakeVLLM.started
    assert settings["dtype"] == "float32" and subject.precision == "32"


@pytest.mark.parametrize("kind", ["merges", "closes", "sentencepiece"])
def test_it_is_asked_with_the_ids_of_training(make_subject, tmp_path, with_vllm, kind):
    subject = replace(make_subject(kind), backend="vllm", checkpoint=tmp_path / kind)
    lm, tokenizer = subject.language_model("alpaca", "x"), subject.tokenizer
    text = lm.apply_chat_template([{"role": "user", "content": "Why?\nAnswer:"}])
    answer = encode_example(
        Example(instruction="Why?\nAnswer:", answer="A red"), tokenizer, "alpaca"
    )
    context, choice = answer.ids[: answer.answer_start], answer.ids[answer.answer_start : -1]
    lm.engine.says = [*choice, tokenizer.eos_token_id]
    settings = {"until": ["\n\n"], "max_gen_toks": 20, "do_sample": False}
    assert lm.generate_until([Instance("generate_until", {}, (text, settings), 0)]) == ["A red"]
    assert lm.engine.asked == [
        (context, {"max_tokens": 20, "stop": ["\n\n"], "temperature": 0.0,
                   "stop_token_ids": [tokenizer.eos_token_id]})
    ]  # fmt: skip
    lm.loglikelihood([Instance("loglikelihood", {}, (text, "A red"), 0)])
    assert lm.engine.scored == [(context, choice)]
    plain = subject.language_model("plain", "x")
    assert plain.engine is lm.engine and plain.engine.template is None
    plain.loglikelihood([Instance("loglikelihood", {}, ("x" * 281, "y" * 19), 0)])
    assert plain.details()["num_truncated_prompts"] == 1, "vLLM generates a token at the end"


def test_a_trained_run_is_merged_for_it_once(make_run, with_vllm):
    from transformers import AutoModelForCausalLM

    run = make_run("method=random", "ratio=0.5", "evals.backend=vllm", "optim.max_steps=1")
    execute(run, fit)
    subject = trained_context(run)
    assert subject.checkpoint is not None
    merged = AutoModelForCausalLM.from_pretrained(subject.checkpoint)
    trained = dict(subject.model.named_parameters())
    name = "model.embed_tokens.weight"
    assert trained[name].equal(dict(merged.named_parameters())[name])
    stamp = subject.checkpoint.stat().st_mtime_ns
    assert trained_context(run).checkpoint.stat().st_mtime_ns == stamp
