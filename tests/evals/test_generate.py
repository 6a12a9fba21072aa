import pytest
import torch

from alps.data.template import prompt
from alps.evals.generate import generate
from alps.evals.subject import Subject
from alps.models.checkpoint import materialize
from alps.models.load import load_model, load_tokenizer

QUESTIONS = ["What is 2 + 2?", "Hi", "Name three colours of the rainbow, please.", "Go"]


@pytest.fixture
def subject(make_run):
    run = make_run()
    base = materialize(run.model)
    model = load_model(base).eval()
    return Subject(model=model, tokenizer=load_tokenizer(base), data=run.data, batch_size=3)


def test_batched_answers_equal_a_naive_greedy_loop(subject):
    answers = generate(subject, QUESTIONS, max_new_tokens=5, title="test")
    for question, answer in zip(QUESTIONS, answers, strict=True):
        ids = prompt("alpaca", question, subject.tokenizer)
        start = len(ids)
        for _ in range(5):
            with torch.inference_mode():
                ids.append(int(subject.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == subject.tokenizer.eos_token_id:
                break
        assert answer == subject.tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_answers_end_at_the_end_of_text_token(subject):
    """A model that always says end-of-text gives empty answers."""
    with torch.no_grad():
        head = subject.model.get_output_embeddings()
        subject.model.model.norm.weight.zero_()
        head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0]))
        head.bias[subject.tokenizer.eos_token_id] = 1.0
    assert generate(subject, QUESTIONS, max_new_tokens=5, title="test") == [""] * 4
