"""Guarantees of docs/security.md other than the sandbox."""

import ast
import os
from pathlib import Path

import alps as package

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))
TOKEN = "hf_averysecrettokenthatnobodymaysee"
KEY = "0123456789abcdef0123456789abcdef01234567"


def test_tokens_are_in_no_file_and_no_output(alps, tmp_path):
    environment = {**os.environ, "HF_TOKEN": TOKEN, "WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}
    settings = ("model=tiny", "data=mini_code", "data.max_examples=16", "method=random")
    small = ("evals.limit=2", "evals.batch_size=2", "logger=wandb")
    done = alps("train", *settings, *small, check=0, env=environment)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.name == "result.json" for path in files)
    for secret in (TOKEN, KEY):
        assert secret not in done.stdout + done.stderr
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_nothing_unpickles_a_file_or_trusts_remote_code():
    required = {"trust_remote_code": False, "allow_pickle": False, "weights_only": True}
    loaders = {"torch.load", "joblib.load", "marshal.loads", "shelve.open", "pickle.load"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.keyword) and node.arg in required:
                assert getattr(node.value, "value", None) is required[node.arg], place
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in loaders, place
