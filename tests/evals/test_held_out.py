import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from alps.data.encoding.encode import encode_example
from alps.evals.evaluate import evaluation_context
from alps.evals.held_out import HeldOut
from alps.evals.statistics import point_estimate
from alps.models.checkpoint import materialize
from alps.models.load import load_model

BENCHMARK = HeldOut(name="held_out", protocol="answer_tokens", limit=7)


@pytest.fixture
def subject(make_run):
    run = make_run()
    return evaluation_context(run, load_model(materialize(run.model)).eval())


def test_it_is_the_mean_over_answer_tokens_of_the_test_split(subject):
    losses = []
    for example in islice(subject.data.examples("test"), 7):
        row = encode_example(example, subject.tokenizer, "alpaca")
        with torch.inference_mode():
            logits = subject.model(torch.tensor([row.ids])).logits[0, row.answer_start - 1 : -1]
        target = torch.tensor(row.ids[row.answer_start :])
        losses += F.cross_entropy(logits, target, reduction="none").tolist()
    card = BENCHMARK.evaluate(subject)
    assert card.num_documents == 7
    assert card.metrics["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert card.metrics["perplexity"] == pytest.approx(math.exp(card.metrics["loss"]))
    for name, sure in card.uncertainty.items():
        assert sure.low < card.metrics[name] < sure.high and sure.stderr > 0
    assert card.uncertainty["perplexity"].low == math.exp(card.uncertainty["loss"].low)


def test_the_loss_of_every_document_is_kept(subject):
    losses, tokens = [], []
    for example in islice(subject.data.examples("test"), 7):
        row = encode_example(example, subject.tokenizer, "alpaca")
        with torch.inference_mode():
            logits = subject.model(torch.tensor([row.ids])).logits[0, row.answer_start - 1 : -1]
        target = torch.tensor(row.ids[row.answer_start :])
        losses.append(float(F.cross_entropy(logits, target, reduction="sum")))
        tokens.append(len(target))
    card = BENCHMARK.evaluate(subject)
    found = BENCHMARK.document_scores(subject.folder)
    (part,) = found.ratios
    assert (
        list(part.numerators) == pytest.approx(losses, rel=1e-5)
        and list(part.denominators) == tokens
    )
    assert point_estimate(*found.ratios) == pytest.approx(card.metrics["loss"], rel=1e-12)
    assert found.verdicts is None and found.groups is None


def test_other_rows_or_another_template_are_other_documents(subject):
    def pool(**changes):
        other = replace(subject, data=replace(subject.data, **changes))
        BENCHMARK.evaluate(other)
        return BENCHMARK.document_scores(other.folder).pool

    assert pool() == pool(max_examples=3, subset_seed=5)  # of the training rows
    assert len({pool(), pool(template="plain"), pool(generator="mini_code")}) == 3


def test_a_model_that_computes_nan_has_no_score(subject):
    """The most likely of tokens that all are NaN is some token, and would be judged."""
    with torch.no_grad():
        subject.model.model.layers[-1].mlp.up_proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="held_out: the model computes NaN"):
        BENCHMARK.evaluate(subject)
    with pytest.raises(ValueError, match="the model computes NaN"):
        subject.language_model("plain", "x")


def test_data_without_held_out_rows_gives_no_number(subject, tmp_path):
    from alps.data.sources.jsonl import Jsonl

    file = tmp_path / "one.jsonl"
    file.write_text('{"instruction": "a", "output": "b"}\n')
    empty = replace(subject, data=Jsonl(path=str(file), test_fraction=0.0))
    assert BENCHMARK.evaluate(empty).metrics == {}


def test_rows_beyond_the_models_context_are_counted_and_told(make_run, caplog):
    run = make_run("model.random.max_position_embeddings=240")
    subject = evaluation_context(run, load_model(materialize(run.model)).eval())
    lengths = []
    subject.model.model.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    card = BENCHMARK.evaluate(subject)
    details = card.details
    assert details["context_length"] == 240 and details["num_truncated"] > 0
    assert max(lengths) == 240
    assert "held_out: data=mini_math" in caplog.text and "context of 240 tokens" in caplog.text
