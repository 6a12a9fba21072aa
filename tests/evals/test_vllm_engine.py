"""vLLM itself needs a GPU: what is checked here is what lm-eval's adapter is told."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from alps.evals import vllm_engine
from alps.evals.examined import subject_of
from alps.execute import execute, trained_subject
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.training.fit import fit


class FakeVLLM(LM):
    started = ()

    def __init__(self, **settings):
        super().__init__()
        FakeVLLM.started = (*FakeVLLM.started, settings)

    def generate_until(self, requests, disable_tqdm=False):
        return ["an answer" for _ in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


@pytest.fixture
def with_vllm(monkeypatch):
    FakeVLLM.started = ()
    vllm_engine._started.cache_clear()
    monkeypatch.setattr(vllm_engine, "vllm_problem", lambda: None)
    adapter = ModuleType("lm_eval.models.vllm_causallms")
    adapter.VLLM = FakeVLLM
    monkeypatch.setitem(sys.modules, adapter.__name__, adapter)


def test_without_the_package_it_is_refused(make_run, tmp_path):
    run = make_run("evals.backend=vllm")
    base = materialize(run.model)
    subject = replace(subject_of(run, load_model(base), base), folder=tmp_path)
    with pytest.raises(ValueError, match="needs the vllm package and a GPU"):
        subject.language_model("plain", "x")


def test_it_answers_from_the_checkpoint_and_starts_once(make_run, tmp_path, with_vllm):
    run = make_run("evals.backend=vllm")
    base = materialize(run.model)
    subject = replace(subject_of(run, load_model(base), base), folder=tmp_path, weights="w")
    lm = subject.language_model("plain", "x")
    assert lm.generate_until([Instance("generate_until", {}, ("a", {"until": []}), 0)]) == [
        "an answer"
    ]
    subject.language_model("plain", "y")
    (settings,) = FakeVLLM.started
    assert settings["pretrained"] == str(base) and settings["batch_size"] == "auto"


def test_a_trained_run_is_merged_for_it_once(make_run, with_vllm):
    from transformers import AutoModelForCausalLM

    run = make_run("method=random", "ratio=0.5", "evals.backend=vllm", "optim.max_steps=1")
    execute(run, fit)
    subject = trained_subject(run)
    assert subject.checkpoint is not None
    merged = AutoModelForCausalLM.from_pretrained(subject.checkpoint)
    trained = dict(subject.model.named_parameters())
    name = "model.embed_tokens.weight"
    assert trained[name].equal(dict(merged.named_parameters())[name])
    stamp = subject.checkpoint.stat().st_mtime_ns
    assert trained_subject(run).checkpoint.stat().st_mtime_ns == stamp
