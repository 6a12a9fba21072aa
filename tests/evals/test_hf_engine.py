"""Our engine against lm-eval's own at batch size 1."""

import logging

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from alps.evals import hf_engine
from alps.evals.hf_engine import HFEngine
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer

SHOTS = "Question: how many eggs?\nAnswer: twelve eggs in a dozen\n\n" * 3


@pytest.fixture
def parts(make_run):
    """A model that listens: with its small first weights every prompt gets the same answer."""
    folder = materialize(make_run().model)
    model = load_model(folder).eval()
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.mul_(6 if weight.ndim == 2 else 1)
    return model, load_tokenizer(folder)


def prompts(shots: str = SHOTS) -> list[Instance]:
    settings = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    texts = [f"{shots}Question: {'why ' * n}?\nAnswer:" for n in (1, 7, 3, 2)]
    return [Instance("generate_until", {}, (t, settings), 0) for t in texts]


def choices(shots: str = SHOTS) -> list[Instance]:
    texts = [f"{shots}Question: {'why ' * n}?\nAnswer:" for n in (1, 7, 3)]
    answers = (" A", " the eggs", " the hen")
    return [Instance("loglikelihood", {}, (t, a), 0) for t in texts for a in answers]


@pytest.mark.parametrize("shots", [SHOTS, ""])
@pytest.mark.parametrize("batch_size", ["auto", 3, 1])
def test_answers_are_those_of_the_harness(parts, shots, batch_size):
    stock = HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)
    ours = HFEngine(*parts, batch_size, None)
    expected = stock.generate_until(prompts(shots), disable_tqdm=True)
    assert ours.generate_until(prompts(shots), disable_tqdm=True) == expected
    assert len(set(expected)) > 1, "the prompts are told apart"
    wanted = stock.loglikelihood(choices(shots), disable_tqdm=True)
    found = ours.loglikelihood(choices(shots), disable_tqdm=True)
    assert [g for _, g in found] == [g for _, g in wanted]
    assert [v for v, _ in found] == pytest.approx([v for v, _ in wanted], abs=1e-4)


def test_the_prefix_is_used(parts, monkeypatch):
    used = []
    real = hf_engine.repeated
    counted = lambda p, rows, room: used.append(rows) or real(p, rows, room)  # noqa: E731
    monkeypatch.setattr(hf_engine, "repeated", counted)
    engine = HFEngine(*parts, "auto", None)
    engine.generate_until(prompts(), disable_tqdm=True)
    engine.loglikelihood(choices(), disable_tqdm=True)
    assert used and sum(used) >= 4 + 3


@pytest.mark.parametrize("max_length", [2048, 100])
def test_a_continuation_is_never_taken_for_the_prefix(parts, max_length):
    """One prompt, whole or cut, and answers that begin alike: their logits are needed."""
    same = [Instance("loglikelihood", {}, (SHOTS, f" the hen {a}"), 0) for a in ("x y", "z y")]
    stock = HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)
    ours = HFEngine(*parts, 2, None)
    stock._max_length = ours._max_length = max_length
    found = ours.loglikelihood(same, disable_tqdm=True)
    wanted = stock.loglikelihood(same, disable_tqdm=True)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in wanted], abs=1e-4)


def test_prompts_that_are_the_beginning_of_others(parts):
    """Of the shortest one token is left behind the prefix, so that it is asked at all."""
    settings = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    texts = [SHOTS, SHOTS, f"{SHOTS}Question: why?"]
    requests = [Instance("generate_until", {}, (text, settings), 0) for text in texts]
    stock = HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)
    expected = stock.generate_until(requests, disable_tqdm=True)
    assert HFEngine(*parts, 3, None).generate_until(requests, disable_tqdm=True) == expected


def test_likelihoods_of_prompts_that_lose_their_beginning(parts):
    engines = [HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)]
    engines.append(HFEngine(*parts, "auto", None))
    for engine in engines:
        engine._max_length = 150
    wanted, found = (e.loglikelihood(choices(), disable_tqdm=True) for e in engines)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in wanted], abs=1e-4)


def test_prompts_that_lose_their_beginning_are_told(parts, caplog):
    engine = HFEngine(*parts, 2, None)
    engine._max_length = 40
    with caplog.at_level(logging.WARNING):
        engine.generate_until(prompts(), disable_tqdm=True)
        engine.loglikelihood(choices(), disable_tqdm=True)
    assert "4 prompts lose their beginning" in caplog.text


def test_nothing_to_do(parts):
    assert HFEngine(*parts, "auto", None).generate_until([], disable_tqdm=True) == []
    assert HFEngine(*parts, "auto", None).loglikelihood([], disable_tqdm=True) == []


def test_training_could_go_on_afterwards(parts):
    """Tensors made in inference mode would stop it."""
    model, tokenizer = parts
    HFEngine(model, tokenizer, "auto", None).generate_until(prompts(), disable_tqdm=True)
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
