"""Our engine against lm-eval's own at batch size 1, and generation that is greedy."""

import logging
from dataclasses import replace

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from alps.evals.engine import hf as hf_engine
from alps.evals.engine.hf import HFEngine
from alps.models.byte_tokenizer import byte_tokenizer
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


def asked(*texts: str, **settings) -> list[Instance]:
    settings = {"until": [], "max_gen_toks": 12, **settings}
    return [Instance("generate_until", {}, (text, settings), n) for n, text in enumerate(texts)]


def answers(subject, **settings) -> list[str]:
    lm = subject.language_model("plain", "x")
    return lm.generate_until(asked("Why?", f"{SHOTS}Why not?", f"{SHOTS}How?", **settings))


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


def test_likelihoods_of_a_bfloat16_model_are_summed_in_float32(parts):
    model, tokenizer = parts[0].bfloat16(), parts[1]
    engine = HFEngine(model, tokenizer, 1, None)
    request = choices("")[1]
    ((found, _),) = engine.loglikelihood([request], disable_tqdm=True)
    context, answer = (tokenizer(text)["input_ids"] for text in request.args)
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *answer[:-1]]])).logits[0, len(context) - 1 :]
    expected = logits.float().log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
    assert found == pytest.approx(float(expected), abs=1e-4)
    rounded = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
    assert abs(float(rounded) - float(expected)) > 1e-3, "which a sum in bfloat16 is not"


def test_the_prefix_is_used(parts, monkeypatch):
    used = []
    real = hf_engine.expanded_cache
    counted = lambda p, rows, room: used.append(rows) or real(p, rows, room)  # noqa: E731
    monkeypatch.setattr(hf_engine, "expanded_cache", counted)
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


def test_answers_to_prompts_that_lose_their_beginning(parts):
    engines = [HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)]
    engines.append(HFEngine(*parts, 3, None))
    for engine in engines:
        engine._max_length = 100
    wanted, found = (e.generate_until(prompts(), disable_tqdm=True) for e in engines)
    assert found == wanted


def test_lm_evals_logger_is_left_as_it_was(parts, caplog):
    """It would warn of a model in memory, and of a cut prompt, which is counted elsewhere."""
    logger = logging.getLogger(HFLM.__module__)
    engine = HFEngine(*parts, 1, None)
    engine._max_length = 100
    engine.loglikelihood(choices(), disable_tqdm=True)
    assert logger.level == logging.NOTSET and not caplog.records
    HFLM(pretrained=parts[0], tokenizer=parts[1], batch_size=1)
    assert "already-initialized model" in caplog.text


def test_nothing_to_do(parts):
    assert HFEngine(*parts, "auto", None).generate_until([], disable_tqdm=True) == []
    assert HFEngine(*parts, "auto", None).loglikelihood([], disable_tqdm=True) == []


def test_training_could_go_on_afterwards(parts):
    """Tensors made in inference mode would stop it."""
    model, tokenizer = parts
    HFEngine(model, tokenizer, "auto", None).generate_until(prompts(), disable_tqdm=True)
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


OWN = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "max_length": 5,
    "min_new_tokens": 9,
    "suppress_tokens": list(range(8, 100)),
    "forced_eos_token_id": 7,
    "do_sample": True,
    "temperature": 9.0,
}
"""What a base model's `generation_config.json` may say."""


@pytest.mark.parametrize("name", [*OWN, "all"])
def test_nothing_of_the_models_own_generation_settings_is_used(make_subject, name):
    subject = make_subject()
    expected = answers(subject)
    own = OWN if name == "all" else {name: OWN[name]}
    subject.model.generation_config = GenerationConfig(**own)
    before = subject.model.generation_config
    assert answers(replace(subject, weights="again")) == expected
    assert subject.model.generation_config is before
    assert before.to_diff_dict() == GenerationConfig(**own).to_diff_dict()


def test_the_models_own_settings_come_back_after_an_error(make_subject):
    subject = make_subject()
    before = subject.model.generation_config
    with pytest.raises(ValueError, match="knows no generation setting warmth"):
        answers(subject, warmth=1.0)
    subject.model.forward = None
    with pytest.raises(TypeError):
        answers(subject)
    assert subject.model.generation_config is before


def test_a_wrapped_model_gets_its_settings_back(make_subject):
    from peft import LoraConfig, get_peft_model

    subject = make_subject()
    expected = answers(subject)
    subject.model.generation_config = before = GenerationConfig(**OWN)
    wrapped = get_peft_model(subject.model, LoraConfig(target_modules=["q_proj"]))
    assert answers(replace(subject, model=wrapped.eval(), weights="again")) == expected
    assert subject.model.generation_config is wrapped.generation_config is before


def test_what_was_used_is_recorded(make_subject):
    subject = make_subject()
    lm = subject.language_model("alpaca", "x")
    settings = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    lm.generate_until([Instance("generate_until", {}, ("Why?", settings), 0)])
    assert lm.details()["decoding"] == {
        "do_sample": False,
        "max_new_tokens": 12,
        "stop": ["\n\n"],
        "end_token_ids": [subject.tokenizer.eos_token_id],
    }


def test_a_benchmarks_own_beams_are_beams(make_subject):
    subject = make_subject()
    one, several = answers(subject), answers(replace(subject, weights="b"), num_beams=4)
    settings = {"max_new_tokens": 12, "do_sample": False, "num_beams": 4}
    ids = torch.tensor([subject.tokenizer("Why?")["input_ids"]])
    stock = subject.model.generate(ids, **settings, eos_token_id=1, pad_token_id=0)
    new = stock[0, ids.shape[1] :]
    assert several[0] == subject.tokenizer.decode(new, skip_special_tokens=True) != one[0]


@pytest.mark.parametrize("named", ["generation_config", "config"])
def test_an_answer_ends_where_the_tokenizer_or_the_model_ends_it(make_subject, named):
    """Of the ends that a model names, ordinary tokens are left out: 2 is a default of configs."""
    subject = make_subject(additional_special_tokens=["<|eot|>"])
    eot = subject.tokenizer.convert_tokens_to_ids("<|eot|>")
    end, ordinary = subject.tokenizer.eos_token_id, subject.tokenizer.convert_tokens_to_ids("a")
    getattr(subject.model, named).eos_token_id = [ordinary, eot]
    engine = subject.language_model("plain", "x").engine
    assert engine.end_ids == [end, eot]
    a = [subject.tokenizer.convert_tokens_to_ids(c) for c in "abcd"]
    engine.generate = lambda rows, _: [[a[1], a[0], eot, a[2]], [a[3], end, a[2]]]
    requests = [Instance("generate_until", {}, (t, {"max_gen_toks": 9}), 0) for t in ("yy", "x")]
    assert engine.generate_until(requests) == ["ba", "d"]


def test_generation_stops_at_an_end(make_subject):
    subject = make_subject()
    engine = subject.language_model("plain", "x").engine
    decoding = engine.decoding({"max_gen_toks": 12})
    prompt = engine.tok_encode("Why?")
    (ids,) = engine.generate([prompt], decoding)
    assert len(ids) == 12
    ((*before, end),) = engine.generate([prompt], replace(decoding, end_token_ids=[ids[3]]))
    assert [*before, end] == ids[: ids.index(ids[3]) + 1]


def test_the_tokenizer_is_left_without_a_padding_token(make_subject):
    subject = make_subject()
    assert subject.tokenizer.pad_token is None
    answers(subject)
    assert subject.tokenizer.pad_token is None


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_sliding_windows_are_those_of_the_model(kind):
    """Prompts with a shared beginning, longer than the window, in one batch and each alone."""
    config = AutoConfig.for_model(
        kind, vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        sliding_window=8, initializer_range=0.5, tie_word_embeddings=False,
    )  # fmt: skip
    if kind == "gemma3_text":
        config.layer_types = ["sliding_attention", "full_attention"] * 2
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = byte_tokenizer()
    prompts = ["the shared beginning of all prompts, " + end for end in ("one", "and two", "3 3 3")]
    options = {"until": [], "max_gen_toks": 12, "do_sample": False}
    asked = [Instance("generate_until", {}, (p, options), i) for i, p in enumerate(prompts)]
    answers = HFEngine(model, tokenizer, 3, None).generate_until(asked)
    assert answers == [greedy(model, tokenizer, prompt) for prompt in prompts]
    config.sliding_window = 200
    wide = AutoModelForCausalLM.from_config(config).eval()
    wide.load_state_dict(model.state_dict())
    assert answers != [greedy(wide, tokenizer, prompt) for prompt in prompts]


@torch.no_grad()
def greedy(model, tokenizer, prompt: str) -> str:
    """Twelve tokens without any cache."""
    ids = start = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
    for _ in range(12):
        following = model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        if following.item() == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, following], 1)
    return tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True)
