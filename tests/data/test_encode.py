import pytest
from tokenizers.processors import TemplateProcessing

from alps.data.encode import encode, encode_row
from alps.data.example import Example
from alps.data.template import prompt
from alps.models.byte_tokenizer import byte_tokenizer

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


def test_a_tokenizer_that_adds_a_beginning_adds_none_before_the_answer():
    tokenizer = byte_tokenizer()
    processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.backend_tokenizer.post_processor = processor
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


def test_rows_that_are_too_long_are_dropped_and_counted():
    examples = [of_length(n) for n in (10, 30, 20, 21)]
    rows, num_dropped = encode(examples, byte_tokenizer(), "plain", max_length=20)
    assert [len(row.ids) for row in rows] == [10, 20]
    assert num_dropped == 2


def test_no_row_at_all_is_one_sentence():
    with pytest.raises(ValueError, match=r"none of the 2 rows fits data\.max_length=20 tokens"):
        encode([of_length(21), of_length(99)], byte_tokenizer(), "plain", max_length=20)


def test_nothing_from_nothing():
    assert encode([], byte_tokenizer(), "plain", max_length=20) == ([], 0)
