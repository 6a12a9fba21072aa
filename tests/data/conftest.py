"""Tokenizers that add to what they encode, and what datasets say of rows they cannot use."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def tokenizer_that_adds() -> Callable:
    """The byte tokenizer with a template such as `<s> $A </s>` around every text."""
    from tokenizers.processors import TemplateProcessing

    from alps.models.byte_tokenizer import byte_tokenizer

    def make(single: str):
        tokenizer = byte_tokenizer()
        special = [(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")]
        processor = TemplateProcessing(single=single, special_tokens=special)
        tokenizer.backend_tokenizer.post_processor = processor
        return tokenizer

    return make


@pytest.fixture(scope="session")
def complaint() -> Callable[..., str]:
    """The one sentence that reading a source's training rows ends with."""

    def read(source) -> str:
        with pytest.raises(ValueError) as error:
            list(source.examples("train"))
        assert type(error.value) is ValueError
        assert "\n" not in str(error.value)
        return str(error.value)

    return read
