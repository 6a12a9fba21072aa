import json

from alps.config.build import build, compose_config
from alps.data.example import Example
from alps.data.readers.magicoder import read
from alps.data.sources.table import Row

EVOL = {"instruction": "Write a stack in Go.", "response": "```go\ntype Stack []int\n```"}
OSS = {
    "lang": "python", "raw_index": 7, "index": 7, "seed": "def f(x):\n    return x",
    "openai_fingerprint": "fp_0", "problem": "Write the identity.", "solution": "```python\n```",
}  # fmt: skip


def test_a_task_and_its_solution():
    wanted = Example(instruction=EVOL["instruction"], answer=EVOL["response"])
    assert read(Row(EVOL)) == wanted


def test_the_other_set_is_read_by_its_own_names(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(OSS))
    path = f"data.path={tmp_path}/rows.jsonl"
    data = build(compose_config(["data=magicoder_oss", path, "data.test_fraction=0"])).data
    wanted = Example(instruction="Write the identity.", answer="```python\n```")
    assert list(data.examples("train")) == [wanted]
