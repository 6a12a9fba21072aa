import pytest

from alps.data.template import prompt, render
from alps.models.byte_tokenizer import byte_tokenizer

EXPECTED = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nAdd {1} and\n2.\n\n### Response:\n"
)


def test_alpaca_is_table_9_to_the_letter():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(prompt("alpaca", "Add {1} and\n2.", tokenizer)) == EXPECTED


def test_plain_is_the_instruction_and_a_line_end():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(prompt("plain", "Add 1.", tokenizer)) == "Add 1.\n"


def test_chat_is_the_tokenizers_own_template():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(prompt("chat", "Hi", tokenizer)) == "[user] Hi\n[assistant] "


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_a_beginning_of_text_token_stands_once_at_the_start(template, tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A")
    ids = prompt(template, "Add 1.", tokenizer)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[1:] == prompt(template, "Add 1.", byte_tokenizer())


def test_a_chat_template_that_writes_it_gets_no_second_one(tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A")
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0].content }}"
    ids = prompt("chat", "Hi", tokenizer)
    assert ids == [tokenizer.bos_token_id, *byte_tokenizer()("Hi")["input_ids"]]


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_no_prompt_ends_in_an_end_of_text_token(template, tokenizer_that_adds):
    tokenizer = tokenizer_that_adds("<s> $A </s>")
    assert tokenizer.eos_token_id not in prompt(template, "Add 1.", tokenizer)


def test_a_missing_chat_template_is_one_sentence():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="tokenizer has no chat template"):
        prompt("chat", "Hi", tokenizer)


@pytest.mark.parametrize("template", ["alpaca", "plain", "chat"])
def test_a_prompt_knows_where_its_instruction_stands(template):
    instructions = ["Say hi.", "user", "a", " \n", ""]
    for rendered, text in zip(
        render(template, instructions, byte_tokenizer()), instructions, strict=True
    ):
        assert rendered.instruction == text
        shorter = render(template, [text[:1]], byte_tokenizer())[0]
        assert rendered.with_instruction(text[:1]).text == shorter.text


def test_an_instruction_that_a_chat_template_strips_is_found():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "[{{ messages[0].content | trim }}]"
    (rendered,) = render("chat", ["  Hi \n"], tokenizer)
    assert rendered == ("[", "Hi", "]")


def test_an_instruction_that_a_chat_template_changes_cannot_be_cut():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "[{{ messages[0].content | upper }}]"
    (rendered,) = render("chat", ["Hi"], tokenizer)
    assert (rendered.text, rendered.instruction) == ("[HI]", "")
