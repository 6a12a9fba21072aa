import json
from dataclasses import replace

import numpy as np
import pytest

from alps.data.describe import QUANTILES, describe
from alps.data.encoding.encode import encode_example
from alps.data.subset import training_examples
from alps.models.byte_tokenizer import byte_tokenizer


@pytest.fixture
def source(make_run, tmp_path):
    rows = [{"instruction": "x" * (10 * k), "input": "", "output": "y" * k} for k in range(1, 13)]
    rows.append({"instruction": "nothing follows", "input": "", "output": ""})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return make_run(
        "data=alpaca", f"data.path={path}", "data.test_fraction=0", "data.template=plain",
        "data.max_length=100", "data.max_examples=null",
    ).data  # fmt: skip


def test_numbers_are_those_of_the_rows(source):
    tokenizer = byte_tokenizer()
    whole = replace(source, max_length=1000)
    found = describe(whole, tokenizer, 0)
    rows = [encode_example(e, tokenizer, "plain") for e in training_examples(whole)]
    lengths = sorted(len(row.ids) for row in rows)
    answers = sorted(row.num_answer_tokens for row in rows)
    assert found.num_rows == 12 and found.num_tokens == sum(lengths)
    assert found.num_truncated == 0 and dict(found.left_out) == {"empty answer": 1}
    for share, length, answer in zip(QUANTILES, found.lengths, found.answers, strict=True):
        assert np.mean(np.array(lengths) <= length) >= share
        assert np.mean(np.array(lengths) < length) <= share
        assert answer in answers
    assert (found.lengths[0], found.lengths[-1]) == (lengths[0], lengths[-1])


def test_cut_rows_are_counted(source):
    found = describe(source, byte_tokenizer(), 0)
    whole = describe(replace(source, max_length=1000), byte_tokenizer(), 0)
    assert found.num_truncated == sum(11 * k + 2 > 100 for k in range(1, 13))
    assert found.lengths[-1] == 100 < whole.lengths[-1]
    assert found.answers == whole.answers, "an answer was cut"


def test_samples_are_what_the_model_reads(source):
    found = describe(source, byte_tokenizer(), 3)
    assert len(found.samples) == 3
    prompt, answer = found.samples[0]
    assert prompt.endswith("x" * 10 + "\n") and answer == "y</s>"
    assert len(describe(source, byte_tokenizer(), 99).samples) == 12
