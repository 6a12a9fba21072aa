from functools import cache
from itertools import islice

import numpy as np
import pytest

from alps.data.encoding.encode import (
    FastCoder,
    SlowCoder,
    backend_of,
    encode,
    encode_chunk,
    encode_row,
    rule_of,
)
from alps.data.example import Example
from alps.data.generators import mini_code
from alps.data.template import chunks, prompt
from alps.models.byte_tokenizer import byte_tokenizer
from alps.models.load import load_tokenizer

EXAMPLE = Example(instruction="Say hi.", answer="Hi! ")
TEMPLATES = ("alpaca", "plain", "chat")


def of_length(count: int) -> Example:
    """A row of `count` tokens in the plain template: one byte is one token."""
    return Example(instruction="ab", answer="x" * (count - len("ab\n") - 1))


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_row_is_prompt_answer_and_end_of_text(template):
    tokenizer = byte_tokenizer()
    row = encode_row(EXAMPLE, tokenizer, template)
    assert row.ids[: row.answer_start] == prompt(template, "Say hi.", tokenizer)
    assert tokenizer.decode(row.ids[row.answer_start : -1]) == "Hi! "
    assert row.ids[-1] == tokenizer.eos_token_id
    assert row.num_answer_tokens == len("Hi! ") + 1


def test_a_tokenizer_that_adds_a_beginning_adds_none_before_the_answer(tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A")
    row = encode_row(EXAMPLE, tokenizer, "alpaca")
    assert row.ids.count(tokenizer.bos_token_id) == 1
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.num_answer_tokens == len("Hi! ") + 1


def test_bytes_outside_ascii_survive():
    tokenizer = byte_tokenizer()
    row = encode_row(Example(instruction="Grüße", answer="日本 🙂"), tokenizer, "plain")
    assert tokenizer.decode(row.ids[:-1]) == "Grüße\n日本 🙂"


@pytest.mark.parametrize("text", ["a </s> b", "<s>", "<pad>"])
def test_a_special_token_spelled_out_in_an_answer_is_plain_text(text):
    tokenizer = byte_tokenizer()
    row = encode_row(Example(instruction="Quote it.", answer=text), tokenizer, "plain")
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(row.ids[row.answer_start : -1])


@cache
def smollm2():
    """The default model's tokenizer, whose tokens are more than bytes."""
    from alps.config.build import build, compose_config
    from alps.models.checkpoint import materialize

    return load_tokenizer(materialize(build(compose_config(["evals=none"])).model))


@pytest.fixture(params=["bytes", "begins", "closes", "smollm2"])
def tokenizer(request, tokenizer_that_adds):
    makers = {
        "bytes": byte_tokenizer,
        "begins": lambda: tokenizer_that_adds("<s> $A"),
        "closes": lambda: tokenizer_that_adds("<s> $A </s>"),
        "smollm2": smollm2,
    }
    return makers[request.param]()


HARD = (
    ("Say hi.", "Hi! "),
    ("  spaces  \n\n", "\n leading"),
    ("\nnew line", "x"),
    ("Grüße, 日本 🙂", "日本 🙂 e\u0301"),
    ("Quote </s> and <|im_end|>", "a </s> b <|im_end|> <|endoftext|> <s>"),
    ("{instruction} {0} %s", "{answer}"),
    ("### Response:\n", "### Instruction:\n"),
    ("a", "a"),
    ("assistant", "user"),
    ("word " * 300, "1234567890 " * 30),
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("in_batches", [False, True])
def test_many_rows_at_once_are_what_each_is_alone(tokenizer, template, in_batches):
    examples = [Example(instruction=i, answer=a) for i, a in HARD]
    examples += list(islice(mini_code.examples("train"), 50))
    rule = rule_of(tokenizer, template, 10**6, "truncate")
    coder = FastCoder(backend_of(tokenizer), rule, in_batches)
    done = [encode_chunk(coder, c, rule) for c in chunks(examples, tokenizer, template)]
    expected = [encode_row(example, tokenizer, template) for example in examples]
    assert [i for c in done for i in c.ids] == [i for row in expected for i in row.ids]
    assert [n for c in done for n in c.lengths] == [len(row.ids) for row in expected]
    assert [n for c in done for n in c.answer_starts] == [row.answer_start for row in expected]
    assert encode(examples, tokenizer, template, 10**6) == (expected, {})


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_tokenizer_that_knows_no_batches_gives_the_same(template, tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A")
    examples = [Example(instruction=i, answer=a) for i, a in HARD]
    rule = rule_of(tokenizer, template, 10**6, "truncate")
    (chunk,) = chunks(examples, tokenizer, template)
    fast = encode_chunk(FastCoder(backend_of(tokenizer), rule, False), chunk, rule)
    slow = encode_chunk(SlowCoder(tokenizer, template), chunk, rule)
    assert all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True))


def test_a_truncation_that_a_caller_left_in_the_tokenizer_is_not_used():
    tokenizer = byte_tokenizer()
    expected = encode_row(EXAMPLE, tokenizer, "alpaca")
    tokenizer("a b c", truncation=True, max_length=3, padding="max_length")
    assert encode([EXAMPLE], tokenizer, "alpaca", 2048)[0] == [expected]


def test_rows_that_are_too_long_can_be_dropped_and_are_counted():
    examples = [of_length(n) for n in (10, 30, 20, 21)]
    rows, tally = encode(examples, byte_tokenizer(), "plain", 20, "drop")
    assert [len(row.ids) for row in rows] == [10, 20]
    assert tally == {"too long": 2}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_row_that_is_too_long_loses_the_end_of_its_instruction(tokenizer, template):
    text = "Täglich wörd " * 40
    whole = encode_row(Example(instruction=text, answer="The answer."), tokenizer, template)
    most = len(whole.ids) - 60
    example = Example(instruction=text, answer="The answer.")
    (row,), tally = encode([example], tokenizer, template, most)
    assert not tally and most - 3 <= len(row.ids) <= most
    shorter = (Example(instruction=text[:n], answer="The answer.") for n in range(len(text)))
    assert any(encode_row(cut, tokenizer, template) == row for cut in shorter)


@pytest.mark.parametrize(("max_length", "kept"), [(7, None), (8, "a"), (9, "ab"), (11, "abcd")])
def test_no_instruction_at_all_is_no_row(max_length, kept):
    example = Example(instruction="abcd", answer="12345")  # plain: 4 + 1 + 5 + 1 tokens
    rows, tally = encode([example], byte_tokenizer(), "plain", max_length)
    assert tally == ({"too long": 1} if kept is None else {})
    tokenizer = byte_tokenizer()
    assert [tokenizer.decode(r.ids) for r in rows] == ([f"{kept}\n12345</s>"] if kept else [])


def test_white_space_alone_is_no_instruction():
    rows, tally = encode(
        [Example(instruction=" \n abcd", answer="123")], byte_tokenizer(), "plain", 8
    )
    assert (rows, tally) == ([], {"too long": 1})


def test_a_character_of_several_tokens_stays_whole():
    example = Example(instruction="日本" * 10, answer="x")
    (row,), _ = encode([example], byte_tokenizer(), "plain", 10)
    assert byte_tokenizer().decode(row.ids) == "日本\nx</s>"


def test_a_tokenizer_that_does_not_say_where_tokens_end_cuts_too():
    tokenizer, example = smollm2(), Example(instruction="Some words " * 99, answer="Yes.")
    rule = rule_of(tokenizer, "alpaca", 90, "truncate")
    (chunk,) = chunks([example], tokenizer, "alpaca")
    done = encode_chunk(SlowCoder(tokenizer, "alpaca"), chunk, rule)
    assert done.num_truncated == 1 and 60 < done.lengths[0] <= 90


def test_nothing_from_nothing():
    assert encode([], byte_tokenizer(), "plain", max_length=20) == ([], {})


def test_rows_are_read_a_bounded_number_of_characters_at_a_time(monkeypatch):
    monkeypatch.setattr("alps.data.template.CHUNK_CHARACTERS", 100)
    taken = []
    examples = (taken.append(i) or of_length(30) for i in range(50))
    for number, chunk in enumerate(chunks(examples, byte_tokenizer(), "plain"), start=1):
        assert len(chunk) <= 4 and len(taken) <= 4 * number
    assert len(taken) == 50
