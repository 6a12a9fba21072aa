from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from alps.data.template import ALPACA
from alps.evals.engine import language_model
from alps.evals.engine.journal import Journal
from alps.evals.engine.language_model import LanguageModel
from alps.evals.evaluate import evaluation_context
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer


class Parrot(LM):
    """Says what it hears, and forgets nothing of what it was asked."""

    def __init__(self, dies_after: int | None = None, partial: bool = True):
        super().__init__()
        self.heard, self.dies_after, self.partial = [], dies_after, partial
        self.batch_size_per_gpu, self.runs_out_above = 8, 8

    def generate_until(self, requests, disable_tqdm=False):
        if self.batch_size_per_gpu > self.runs_out_above:
            raise torch.OutOfMemoryError
        answers = []
        for request in requests:
            if self.dies_after is not None and len(self.heard) == self.dies_after:
                raise KeyboardInterrupt
            self.heard.append(request.args[0])
            answers.append(request.args[0].upper())
            if self.partial:
                self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def loglikelihood(self, requests, disable_tqdm=False):
        self.heard += [request.args for request in requests]
        return [(-float(len(request.args[1])), True) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [-1.0 for _ in requests]


def asked(*texts: str, task: str = "t") -> list[Instance]:
    return [
        Instance("generate_until", {}, (t, {"until": []}), 0, metadata=(task, i, 1))
        for i, t in enumerate(texts)
    ]


@pytest.fixture
def tokenizer(make_run):
    return load_tokenizer(materialize(make_run().model))


@pytest.fixture
def speak(tmp_path, tokenizer):
    def make(engine: LM, template: str = "alpaca") -> LanguageModel:
        return LanguageModel(engine, Journal(tmp_path, "w"), tokenizer, template, "test")

    return make


@pytest.mark.parametrize("partial", [True, False])
def test_answers_come_in_order_and_nothing_is_asked_twice(speak, partial):
    parrot = Parrot(partial=partial)
    lm = speak(parrot)
    assert lm.generate_until(asked("b", "a", "b")) == ["B", "A", "B"]
    assert lm.generate_until(asked("a", "c")) == ["A", "C"]
    assert sorted(parrot.heard) == ["a", "b", "c"]
    assert lm.counts.num_answers == 3 and lm.counts.num_tokens == 3


def test_a_killed_evaluation_goes_on_where_it_was(speak):
    with pytest.raises(KeyboardInterrupt):
        speak(Parrot(dies_after=2)).generate_until(asked("a", "b", "c", "d"))
    second = Parrot()
    assert speak(second).generate_until(asked("a", "b", "c", "d")) == list("ABCD")
    assert second.heard == ["c", "d"]


def test_other_settings_are_another_question(speak):
    lm = speak(Parrot())
    lm.generate_until(asked("a"))
    other = [Instance("generate_until", {}, ("a", {"until": ["x"]}), 0)]
    lm.generate_until(other)
    lm.loglikelihood([Instance("loglikelihood", {}, ("a", " b"), 0)])
    assert len(lm.engine.heard) == 3


def test_log_likelihoods_stay_pairs(speak):
    question = [Instance("loglikelihood", {}, ("a", " bc"), 0)]
    assert speak(Parrot()).loglikelihood(question) == [(-3.0, True)]
    assert speak(Parrot()).loglikelihood(question) == [(-3.0, True)], "from the journal"


def test_less_at_a_time_where_memory_runs_out(speak):
    parrot = Parrot()
    parrot.runs_out_above = 2
    assert speak(parrot).generate_until(asked("a", "b")) == ["A", "B"]
    assert parrot.batch_size_per_gpu == 2
    parrot.runs_out_above = 0
    with pytest.raises(torch.OutOfMemoryError):
        speak(parrot).generate_until(asked("x"))


def test_what_was_answered_before_memory_ran_out_is_not_asked_again(speak):
    class Late(Parrot):
        def generate_until(self, requests, disable_tqdm=False):
            if self.batch_size_per_gpu == 8:
                super().generate_until(requests[:1])
                raise torch.OutOfMemoryError
            return super().generate_until(requests)

    late = Late()
    assert speak(late).generate_until(asked("a", "b", "c")) == ["A", "B", "C"]
    assert late.heard == ["a", "b", "c"]


def test_requests_of_a_task_are_asked_together(speak):
    parrot = Parrot()
    mixed = [*asked("a1", task="a"), *asked("b1", task="b"), *asked("a2", task="a")]
    speak(parrot).generate_until(mixed)
    assert parrot.heard == ["a1", "a2", "b1"]


def test_progress_counts_documents_that_are_done(tmp_path, tokenizer, monkeypatch):
    told = []

    @contextmanager
    def shown(title, total, show, what, known):
        told.append((title, total, what, known))
        yield told.append

    monkeypatch.setattr(language_model, "track_progress", shown)
    lm = LanguageModel(Parrot(), Journal(tmp_path, "w"), tokenizer, "alpaca", "mmlu")
    lm.generate_until(asked("a"))
    choices = [
        Instance("generate_until", {}, (f"{doc}{c}", {}), 0, metadata=("t", doc, 1))
        for doc in (0, 1)
        for c in "ABC"
    ]
    lm.generate_until([*asked("a"), *choices])
    assert told == [("mmlu", 1, "documents", 0), 1, 1, ("mmlu", 2, "documents", 0), 1, 2, 2]


def test_progress_of_an_engine_that_works_in_batches(subject, monkeypatch):
    told = []

    @contextmanager
    def shown(*_):
        yield told.append

    monkeypatch.setattr(language_model, "track_progress", shown)
    lm = replace(subject, batch_size=2).language_model("plain", "x")
    settings = {"until": [], "max_gen_toks": 2, "do_sample": False}
    asked = [(f"Why {n}?", settings) for n in range(5)]
    lm.generate_until(
        [Instance("generate_until", {}, a, 0, ("t", n, 1)) for n, a in enumerate(asked)]
    )
    assert told == [0, 2, 4, 5]


def test_a_question_is_asked_in_the_template_of_the_training(speak):
    turn = {"role": "user", "content": "Why?"}
    lm = speak(Parrot())
    assert lm.apply_chat_template([turn]) == ALPACA.format(instruction="Why?")
    loose = {**turn, "content": "Why?\n"}
    assert lm.apply_chat_template([loose]) == ALPACA.format(instruction="Why?"), "as in training"
    begun = [turn, {"role": "assistant", "content": "Because"}]
    text = lm.apply_chat_template(begun, add_generation_prompt=False)
    assert text == ALPACA.format(instruction="Why?") + "Because"


def test_a_single_instruction_holds_no_conversation(speak):
    turns = [{"role": r, "content": "x"} for r in ("user", "assistant", "user")]
    with pytest.raises(ValueError, match="holds one instruction, not a conversation"):
        speak(Parrot()).apply_chat_template(turns)


def test_a_system_turn_is_a_part_of_the_instruction(speak):
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    wanted = ALPACA.format(instruction="Be short.\n\nWhy?")
    assert speak(Parrot()).apply_chat_template(turns) == wanted


def test_the_models_own_template_takes_several_turns(speak, tokenizer):
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    turns = [{"role": r, "content": r[0]} for r in ("user", "assistant", "user")]
    assert speak(Parrot(), "chat").apply_chat_template(turns) == "<user>u<assistant>a<user>u"


@pytest.fixture
def subject(make_run, tmp_path):
    run = make_run()
    model = load_model(materialize(run.model)).eval()
    return replace(evaluation_context(run, model), folder=tmp_path / "answers", weights="w")


def test_meta_needs_a_chat_template(subject):
    subject.tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"protocol=meta .* its tokenizer has none"):
        subject.language_model("meta", "gsm8k")


def test_answers_of_another_version_are_asked_again(subject, monkeypatch):
    question = [Instance("loglikelihood", {}, ("a", " b"), 0)]
    subject.language_model("plain", "x").loglikelihood(question)
    monkeypatch.setattr(language_model, "ANSWER_VERSION", language_model.ANSWER_VERSION - 1)
    again = subject.language_model("plain", "x")
    again.loglikelihood(question)
    assert again.counts.num_answers == 2


def test_a_prompt_has_one_beginning_of_text(subject):
    """As in training; a chat template that writes its own gets no second one."""
    tokenizer = subject.tokenizer
    bos = tokenizer.bos_token
    assert bos
    engine = subject.language_model("alpaca", "x").engine
    assert engine.tok_encode("Why?") == tokenizer("Why?")["input_ids"]
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0].content }}"
    lm = subject.language_model("meta", "x")
    text = lm.apply_chat_template([{"role": "user", "content": "Why?"}])
    assert lm.engine.tok_encode(text).count(tokenizer.bos_token_id) == 1


def test_throughput_counts_what_was_said(subject):
    lm = subject.language_model("plain", "x")
    settings = {"until": [], "max_gen_toks": 5, "do_sample": False}
    lm.generate_until([Instance("generate_until", {}, ("Why?", settings), 0)])
    assert 0 < subject.counts.num_tokens <= 5 and subject.counts.seconds > 0


def test_weights_in_another_precision_are_asked_again(subject):
    question = [Instance("loglikelihood", {}, ("a", " b"), 0)]
    subject.language_model("plain", "x").loglikelihood(question)
    subject.model.to(torch.bfloat16)
    again = subject.language_model("plain", "x")
    again.loglikelihood(question)
    assert again.counts.num_answers == 2
