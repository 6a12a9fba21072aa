from functools import cache
from itertools import islice

import pytest
import tokenizers

from alps.data.encoding.encode import (
    EncodedExample,
    EncodingOptions,
    encode,
    encode_batch,
    encode_example,
)
from alps.data.example import Example
from alps.data.generators import mini_code
from alps.data.template import open_ended, prompt, render
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
    row = encode_example(EXAMPLE, tokenizer, template)
    assert row.ids[: row.answer_start] == prompt(template, "Say hi.", tokenizer)
    assert tokenizer.decode(row.ids[row.answer_start : -1]) == "Hi! "
    assert row.ids[-1] == tokenizer.eos_token_id
    assert row.num_answer_tokens == len("Hi! ") + 1


def test_a_tokenizer_that_adds_a_beginning_adds_none_before_the_answer(tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A")
    row = encode_example(EXAMPLE, tokenizer, "alpaca")
    assert row.ids.count(tokenizer.bos_token_id) == 1
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.num_answer_tokens == len("Hi! ") + 1


def test_bytes_outside_ascii_survive():
    tokenizer = byte_tokenizer()
    row = encode_example(Example(instruction="Grüße", answer="日本 🙂"), tokenizer, "plain")
    assert tokenizer.decode(row.ids[:-1]) == "Grüße\n日本 🙂"


@pytest.mark.parametrize("text", ["a </s> b", "<s>", "<pad>"])
def test_a_special_token_spelled_out_in_an_answer_is_plain_text(text):
    tokenizer = byte_tokenizer()
    row = encode_example(Example(instruction="Quote it.", answer=text), tokenizer, "plain")
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
def test_many_rows_at_once_are_what_each_is_alone(tokenizer, template):
    examples = [Example(instruction=i, answer=a) for i, a in HARD]
    examples += list(islice(mini_code.examples("train"), 50))
    expected = [encode_example(example, tokenizer, template) for example in examples]
    assert encode(examples, tokenizer, template, 10**6) == (expected, {})


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_batch_of_the_tokenizers_library_gives_the_same(tokenizer, template):
    """An encoding that owes nothing to transformers: the reference for special tokens in texts."""
    examples = [Example(instruction=i, answer=a) for i, a in HARD]
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = template != "chat"
    texts = [p.text for p in render(template, [e.instruction for e in examples], tokenizer)]
    asked = backend.encode_batch(texts, add_special_tokens=template != "chat")
    backend.encode_special_tokens = True
    answers = backend.encode_batch([e.answer for e in examples], add_special_tokens=False)
    end = tokenizer.eos_token_id
    prompts = [open_ended(p.ids, end) if template != "chat" else p.ids for p in asked]
    expected = [
        EncodedExample([*ids, *answer.ids, end], len(ids))
        for ids, answer in zip(prompts, answers, strict=True)
    ]
    assert encode(examples, tokenizer, template, 10**6) == (expected, {})


def test_a_truncation_that_a_caller_left_in_the_tokenizer_is_not_used():
    tokenizer = byte_tokenizer()
    expected = encode_example(EXAMPLE, tokenizer, "alpaca")
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
    whole = encode_example(Example(instruction=text, answer="The answer."), tokenizer, template)
    most = len(whole.ids) - 60
    example = Example(instruction=text, answer="The answer.")
    (row,), tally = encode([example], tokenizer, template, most)
    assert not tally and most - 3 <= len(row.ids) <= most
    shorter = (Example(instruction=text[:n], answer="The answer.") for n in range(len(text)))
    assert any(encode_example(cut, tokenizer, template) == row for cut in shorter)


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


def test_a_tokenizer_that_does_not_say_where_tokens_end_cuts_too(monkeypatch):
    tokenizer, example = smollm2(), Example(instruction="Some words " * 99, answer="Yes.")
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    options = EncodingOptions.of(tokenizer, "alpaca", 90, "truncate")
    batch = {"instruction": [example.instruction], "answer": [example.answer]}
    columns = encode_batch(batch, tokenizer, options)
    assert columns["truncated"] == [True] and 60 < len(columns["ids"][0]) <= 90


def test_nothing_from_nothing():
    assert encode([], byte_tokenizer(), "plain", max_length=20) == ([], {})
