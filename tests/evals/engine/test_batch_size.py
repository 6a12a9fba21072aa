import torch
from transformers import LlamaConfig

from alps.evals.engine import batch_size
from alps.evals.engine.batch_size import bytes_per_sequence, max_batch_size

LLAMA_8B = LlamaConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, vocab_size=128256,
)  # fmt: skip


def test_keys_and_values_of_llama_3_8b_are_128_kib_a_token():
    layer = (8 * 4096 + 3 * 14336) * 2
    assert bytes_per_sequence(LLAMA_8B, 2, 1, 0) - layer == 128 * 1024


def test_more_memory_holds_more_rows(monkeypatch):
    def rows(free: int, tokens: int = 2048, logits: int = 1) -> int:
        monkeypatch.setattr(batch_size, "_free_memory", lambda: free)
        return max_batch_size(LLAMA_8B, torch.bfloat16, tokens, logits)

    assert rows(2**20) == 1, "one row always has a try"
    assert rows(2**32) < rows(2**33) and rows(2**40) == batch_size.MAX_BATCH_SIZE["cpu"]
    assert rows(2**34, logits=2048) < rows(2**34), "logits of all positions weigh more"


def test_this_machine_says_what_is_free():
    assert batch_size._free_memory() > 2**20
