"""What is scored, and what answers follow, is what training encodes."""

import copy
import logging
import pickle

import pytest
import torch
from lm_eval.api.instance import Instance

from alps.data.encoding.encode import answer_ids, encode_example
from alps.data.example import Example
from alps.data.template import prompt
from alps.evals.engine.prompts import PrefilledPrompt, prefilled_prompt

KINDS = ("bytes", "merges", "begins", "closes", "begins and closes", "sentencepiece", "smollm2")
ASKED = (("alpaca", "alpaca"), ("alpaca", "plain"), ("alpaca", "chat"), ("meta", "alpaca"))
QUESTION = "Which one is it?\nA. red\nB. blue\nAnswer:"
CODE = "def area(a):\n"


def turn(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def heard(lm, kind: str, *requests: tuple) -> list[tuple[list[int], list[int]]]:
    """Prompt and choice of each request, as the engine hands them to the model."""
    seen = []
    engine = lm.engine

    def likelihoods(wanted, *_, **__):
        seen.extend((context, choice) for _, context, choice in wanted)
        return [(-1.0, False)] * len(wanted)

    def answers(rows, _):
        seen.extend((list(row), []) for row in rows)
        return [[] for _ in rows]

    engine._loglikelihood_tokens, engine.generate = likelihoods, answers
    getattr(lm, kind)([Instance(kind, {}, r, n) for n, r in enumerate(requests)])
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("protocol", "template"), ASKED)
def test_what_is_scored_is_what_was_trained(make_subject, kind, protocol, template):
    subject = make_subject(kind, template)
    lm = subject.language_model(protocol, "x")
    text = lm.apply_chat_template([turn(QUESTION)])
    written = "chat" if protocol == "meta" else template
    for choice, ids in zip(
        ("A", "red, green"),
        heard(lm, "loglikelihood", (text, "A"), (text, "red, green")),
        strict=True,
    ):
        row = encode_example(
            Example(instruction=QUESTION, answer=choice), subject.tokenizer, written
        )
        assert ids == (row.ids[: row.answer_start], row.ids[row.answer_start : -1])
    asked = heard(lm, "generate_until", (text, {"until": [], "max_gen_toks": 3}))
    assert asked == [(prompt(written, QUESTION, subject.tokenizer), [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("protocol", "template"), ASKED)
def test_a_response_that_has_begun_is_the_beginning_of_an_answer(
    make_subject, kind, protocol, template
):
    subject = make_subject(kind, template)
    lm = subject.language_model(protocol, "x")
    begun = "Answer:\nThe best is"
    history = [turn(QUESTION), turn(begun, "assistant")]
    text = lm.apply_chat_template(history, add_generation_prompt=False)
    assert text.endswith(begun)
    written = "chat" if protocol == "meta" else template
    ((context, choice),) = heard(lm, "loglikelihood", (text, " A red"))
    example = Example(instruction=QUESTION, answer=begun + " A red")
    row = encode_example(example, subject.tokenizer, written)
    assert [*context, *choice] == row.ids[:-1] and len(context) > row.answer_start
    assert subject.tokenizer.decode(choice).strip() == "A red"
    ((context, _),) = heard(lm, "generate_until", (text, {"until": [], "max_gen_toks": 3}))
    expected = encode_example(
        Example(instruction=QUESTION, answer=begun), subject.tokenizer, written
    )
    assert context == expected.ids[:-1]


@pytest.mark.parametrize("kind", ["merges", "closes", "sentencepiece"])
def test_the_likelihood_is_that_of_the_trained_answer(make_subject, kind):
    subject = make_subject(kind)
    lm = subject.language_model("alpaca", "x")
    text = lm.apply_chat_template([turn(QUESTION)])
    choices = ("A", "blue")
    pairs = [Instance("loglikelihood", {}, (text, c), n) for n, c in enumerate(choices)]
    for choice, (found, _) in zip(choices, lm.loglikelihood(pairs), strict=True):
        row = encode_example(
            Example(instruction=QUESTION, answer=choice), subject.tokenizer, "alpaca"
        )
        with torch.no_grad():
            likely = subject.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        places = range(row.answer_start, len(row.ids) - 1)
        assert found == pytest.approx(
            sum(float(likely[p - 1, row.ids[p]]) for p in places), abs=1e-4
        )


def test_plain_is_encoded_as_the_harness_does(make_subject):
    """Together: ":" and the line break are one token, and the context ends before the latter."""
    subject = make_subject("merges")
    lm = subject.language_model("plain", "x")
    ((context, choice),) = heard(lm, "loglikelihood", ("Answer:\n", "A"))
    decode = subject.tokenizer.decode
    assert (decode(context), [decode(i) for i in choice]) == ("Answer:", ["A"])


@pytest.mark.parametrize("kind", ["closes", "begins and closes"])
@pytest.mark.parametrize("protocol", ["plain", "alpaca", "meta"])
def test_no_prompt_ends_in_an_end_of_text(make_subject, kind, protocol):
    subject = make_subject(kind)
    lm = subject.language_model(protocol, "x")
    text = "Why?" if protocol == "plain" else lm.apply_chat_template([turn("Why?")])
    end = subject.tokenizer.eos_token_id
    settings = {"until": [], "max_gen_toks": 3}
    for _, *ids in [("", *pair) for pair in heard(lm, "loglikelihood", (text, " Because"))]:
        assert all(end not in part for part in ids)
    for ids, _ in heard(lm, "generate_until", (text, settings)):
        assert end not in ids
    shown = heard(lm, "generate_until", (f"{text}</s>", settings))[0][0]
    assert shown[-1] != end or protocol != "alpaca", "spelled out in a template it is text"


@pytest.mark.parametrize("kind", ["bytes", "closes"])
def test_an_end_of_text_that_the_harness_spells_out_stays_under_plain(make_subject, kind):
    subject = make_subject(kind)
    lm = subject.language_model("plain", "x")
    ((_, choice),) = heard(lm, "loglikelihood", ("Why?", "</s>"))
    assert choice == [subject.tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", ["bytes", "closes"])
@pytest.mark.parametrize("protocol", ["plain", "alpaca"])
def test_an_empty_prompt_is_the_beginning_of_a_text(make_subject, kind, protocol):
    lm = make_subject(kind).language_model(protocol, "x")
    beginning = lm.engine.prefix_token_id
    assert heard(lm, "generate_until", ("", {"until": [], "max_gen_toks": 3})) == [
        ([beginning], [])
    ]
    ((context, _),) = heard(lm, "loglikelihood", ("", "A"))
    assert context == [beginning]


@pytest.mark.parametrize("kind", ["bytes", "begins and closes", "sentencepiece"])
@pytest.mark.parametrize("protocol", ["plain", "alpaca", "meta"])
@pytest.mark.parametrize("written", ["    return a * a\n", "return a", " re A:\n  x", "Grüße 日本"])
def test_an_answer_keeps_its_first_space(make_subject, kind, protocol, written):
    """What is generated is read as it was encoded: joined to the prompt, or as an answer alone."""
    subject = make_subject(kind)
    lm = subject.language_model(protocol, "x")
    tokenizer, engine = subject.tokenizer, lm.engine
    if protocol == "plain":
        text = CODE
        whole = engine.tok_encode(text + written)
        ids = whole[len(engine.tok_encode(text)) :]
    else:
        text, ids = lm.apply_chat_template([turn(CODE)]), answer_ids(written, tokenizer)
    engine.generate = lambda rows, _: [[*ids, tokenizer.eos_token_id, *ids] for _ in rows]
    request = Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 50}), 0)
    assert lm.generate_until([request]) == [written]


def test_code_behind_a_begun_response_keeps_its_first_space(make_subject):
    subject = make_subject("sentencepiece")
    lm = subject.language_model("alpaca", "x")
    begun = f"Here:\n```python\n{CODE}"
    history = [turn("Write it."), turn(begun, "assistant")]
    text = lm.apply_chat_template(history, add_generation_prompt=False)
    response = answer_ids(f"{begun}    return a", subject.tokenizer)
    ids = response[len(answer_ids(begun, subject.tokenizer)) :]
    lm.engine.generate = lambda rows, _: [ids for _ in rows]
    request = Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 50}), 0)
    assert lm.generate_until([request]) == ["    return a"]


def test_a_program_completed_under_plain_compiles(make_subject):
    from alps.evals.evalplus.prompts import extract_program

    subject = make_subject("sentencepiece")
    lm = subject.language_model("plain", "humaneval")
    encode, begun = subject.tokenizer.encode, f"{CODE}    b = a\n"
    ids = torch.tensor([encode(f"{begun}    return a * b")[len(encode(begun)) :]])
    subject.model.generate = lambda input_ids, **_: torch.cat([input_ids, ids], 1)
    request = Instance("generate_until", {}, (begun, {"until": [], "max_gen_toks": 50}), 0)
    (answer,) = lm.generate_until([request])
    space = {}
    exec(extract_program("plain", begun, answer, []), space)
    assert space["area"](3) == 9


def test_a_prefilled_prompt_is_a_text_that_knows_its_parts():
    text = PrefilledPrompt("Why? ", "Because")
    for one in (text, copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert one == "Why? Because" and (one.question, one.response) == ("Why? ", "Because")
    assert prefilled_prompt("Why? Because", "Because\n").response == "Because"
    assert prefilled_prompt("Why?", "Because") == "Why?"


def test_prompts_beyond_the_context_are_counted_and_told(make_subject, caplog):
    lm = make_subject(max_position_embeddings=64).language_model("plain", "arc")
    pairs = [("long " * n, c) for n in (1, 12, 13) for c in (" red", " blue")]
    requests = [
        Instance("loglikelihood", {}, pair, n % 2, ("arc", n // 2, 1))
        for n, pair in enumerate(pairs)
    ]
    with caplog.at_level(logging.WARNING):
        lm.loglikelihood(requests)
    told = "arc: 1 prompts lose their beginning, which is beyond the model's context of 64 tokens"
    assert [r.getMessage() for r in caplog.records] == [
        told
    ]  # 65 tokens and " blue" without its last
    assert lm.details() == {"context_length": 64, "num_truncated_prompts": 1}


@pytest.mark.parametrize(("rank", "told"), [(0, 3), (1, 0)])
def test_prompts_of_all_ranks_are_counted_on_the_first(make_subject, caplog, rank, told):
    lm = make_subject(max_position_embeddings=64).language_model("plain", "arc")
    lm.gather_object = lambda count: [count, 2] if rank == 0 else None
    lm.loglikelihood([Instance("loglikelihood", {}, ("long " * 20, "A"), 0)])
    assert lm.details()["num_truncated_prompts"] == told
    assert ("arc: 3 prompts lose" in caplog.text) == (rank == 0)


def test_prompts_with_no_room_for_the_answer_are_counted_and_told(make_subject, caplog):
    subject = make_subject(max_position_embeddings=64)
    lm = subject.language_model("plain", "gsm8k")
    settings = {"until": [], "max_gen_toks": 10}
    requests = [Instance("generate_until", {}, ("x" * n, settings), 0) for n in (54, 55, 80)]
    with caplog.at_level(logging.WARNING):
        answers = lm.generate_until(requests)
        assert lm.generate_until(requests) == answers, "those that were answered before, too"
    assert len(caplog.records) == 2 and "gsm8k: 2 prompts lose" in caplog.text
    assert len(set(answers)) == 1, "what is left of each is the same"
    again = subject.language_model("plain", "gsm8k")
    again.generate_until(requests)
    assert again.details()["num_truncated_prompts"] == 2


@pytest.mark.parametrize(("protocol", "lost"), [("plain", 0), ("alpaca", 1)])
def test_the_template_counts_as_well(make_subject, protocol, lost):
    lm = make_subject(max_position_embeddings=64).language_model(protocol, "x")
    text = "Why?" if protocol == "plain" else lm.apply_chat_template([turn("Why?")])
    lm.loglikelihood([Instance("loglikelihood", {}, (text, "A"), 0)])
    assert lm.details()["num_truncated_prompts"] == lost


def test_what_cannot_be_asked_is_refused(make_subject):
    lm = make_subject(max_position_embeddings=64).language_model("alpaca", "arc")
    fits, too_long = ((("Why?", "x" * n), 0) for n in (64, 65))
    lm.loglikelihood([Instance("loglikelihood", {}, *fits)])
    with pytest.raises(ValueError, match=r"arc: a choice of 65 tokens does not fit .* of 64"):
        lm.loglikelihood([Instance("loglikelihood", {}, *too_long)])
    settings = {"until": [], "max_gen_toks": 64}
    with pytest.raises(ValueError, match=r"arc: answers of up to 64 tokens leave no room"):
        lm.generate_until([Instance("generate_until", {}, ("Why?", settings), 0)])


def test_an_empty_stop_text_ends_nothing(make_subject):
    """The harness's way of having none; every answer contains it."""
    lm = make_subject("bytes").language_model("alpaca", "x")
    lm.engine.generate = lambda rows, _: [lm.engine.tok_encode("yes", False) for _ in rows]
    settings = {"until": ["", "\n"], "max_gen_toks": 5}
    request = Instance("generate_until", {}, ("What?", settings), 0)
    assert lm.engine.decoding(settings).stop == ["\n"]
    assert lm.generate_until([request]) == ["yes"]
