"""Benchmarks and problems written by hand, a model with prescribed answers, a sandbox."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from alps.evals.evalplus.problems import Dataset, ProblemSet, subset
from alps.evals.sandbox.availability import runtime_directory
from alps.evals.sandbox.backend import installed_backend
from alps.evals.sandbox.process import CallBatch, Request, Sandbox
from alps.evals.sandbox.values import decode


@dataclass
class Asked:
    """What a benchmark asked, and its result."""

    requests: list[Any] = field(default_factory=list)
    card: Any = None
    folder: Path = Path()

    @property
    def prompts(self) -> list[str]:
        return [request.args[0] for request in self.requests]


@pytest.fixture
def make_benchmark(make_run, tmp_path):
    """A benchmark by its YAML, with these rows in `tmp_path/documents` for the real ones."""

    def make(name: str, *overrides: str, test=None, shots=None, **changes):
        settings = [f"evals.benchmarks.x.{override}" for override in overrides]
        run = make_run(f"+evals/benchmark@evals.benchmarks.x={name}", *settings)
        (benchmark,) = run.evals.benchmarks
        splits = dict(benchmark.splits)
        for split, rows in (("test", test), ("shots", shots)):
            if rows is not None:
                splits[split] = replace(splits[split], num_rows=len(rows), path=f"{split}.jsonl")
                path = tmp_path / "documents" / f"{split}.jsonl"
                path.parent.mkdir(exist_ok=True)
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return replace(benchmark, splits=splits, **changes)

    return make


@pytest.fixture
def ask(tmp_path) -> Callable[..., Asked]:
    """Evaluates a benchmark on a model that gives `answer(request)`."""
    from lm_eval.api.model import LM

    from alps.evals.context import EvaluationContext
    from alps.evals.engine.journal import Journal
    from alps.evals.engine.language_model import LanguageModel
    from alps.evals.harness import run as harness_run
    from alps.models.byte_tokenizer import byte_tokenizer

    class Told(LM):
        def __init__(self, answer, asked):
            super().__init__()
            self.answer, self.asked = answer, asked

        def generate_until(self, requests, disable_tqdm=False):
            self.asked.requests += requests
            return [self.answer(request) for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            self.asked.requests += requests
            return [(float(self.answer(request)), False) for request in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

    def evaluate(benchmark, answer, tokenizer=None, name="answers"):
        asked = Asked(folder=tmp_path / name)
        asked.folder.mkdir()
        tokenizer = tokenizer or byte_tokenizer()

        def engine(subject, protocol, title):
            template = {"alpaca": "alpaca", "meta": "chat"}.get(protocol, "plain")
            journal = Journal(subject.folder, "told")
            return LanguageModel(Told(answer, asked), journal, tokenizer, template, title)

        subject = EvaluationContext(
            build_language_model=engine,
            model=None,
            tokenizer=tokenizer,
            data=None,
            batch_size=1,
            folder=asked.folder,
            weights="told",
            data_dir=tmp_path / "documents",
        )
        harness_run._warn_once.cache_clear()
        asked.card = benchmark.evaluate(subject)
        assert not harness_run._warn_once.cache_info().currsize, (
            "a benchmark of ours gives lm-eval nothing to warn of"
        )
        return asked

    return evaluate


@pytest.fixture(scope="session")
def problems() -> Callable[..., ProblemSet]:
    """Problems that ask for a function `double`; `changes` are fields of each."""

    def make(count: int, dataset: Dataset = "humaneval", **changes) -> ProblemSet:
        name = {"humaneval": "HumanEval", "mbpp": "Mbpp"}[dataset]
        row = {
            "prompt": 'def double(x):\n    """Twice x."""\n',
            "entry_point": "double",
            "contract": "",
            "canonical_solution": "    return 2 * x\n",
            "base_input": [[1], [2]],
            "plus_input": [[0], [-3]],
            "atol": 0,
            **changes,
        }
        rows = tuple({"task_id": f"{name}/{number}", **row} for number in range(count))
        return subset(dataset, "by hand", rows)

    return make


class Box(Sandbox):
    """A sandbox for a program whose function is `f`."""

    def lines_of(
        self, code: str, *inputs, seconds=5.0, limit=4.0, max_output_bytes=1 << 16, **changes
    ) -> list[bytes]:
        """Every line that comes out of calling `f` with each of `inputs`."""
        timeouts = [limit] * len(inputs)
        batch = CallBatch(name="p", inputs=inputs, call_timeouts=timeouts, timeout=seconds)
        changes = {"memory": 1 << 29, **changes}
        request = Request(code=code, entry_point="f", batches=[batch], **changes)
        with self.start(request, max_output_bytes) as process:
            return list(process.lines())

    def result_of(self, code: str, *given, **changes) -> Any:
        """What `f` returns, or the line that says why there is nothing."""
        line = self.lines_of(code, given, **changes)[0]
        return decode(line[1:]) if line[:1] == b"v" else line


@pytest.fixture(scope="module")
def runtime_dir() -> Iterator[Path]:
    with runtime_directory() as folder:
        yield folder


@pytest.fixture
def box(runtime_dir) -> Box:
    backend = installed_backend()
    assert backend is not None  # a test marked `sandbox` is skipped without one
    return Box(backend, runtime_dir)


CHAT = (
    "{% for m in messages %}[{{ m.role }}]:\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]:\n{% endif %}"
)


def byte_level(merges=(), single="$A", **special):
    """Bytes, and ":" with a line break behind it as one token, if `merges` says so."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"bos_token": "<s>", "eos_token": "</s>", **special}
    tokens = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet()), ":Ċ"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    own = [(token, vocabulary[token]) for token in special.values()]
    built.post_processor = processors.TemplateProcessing(single=single, special_tokens=own)
    return PreTrainedTokenizerFast(tokenizer_object=built, chat_template=CHAT, **special)


def sentencepiece_like():
    """As Llama-2's: a space is put before a text's first word, and dropped when it is decoded."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    merges = [("▁", "▁"), ("▁", "A"), ("r", "e"), ("▁", "re")]
    tokens = [*special.values(), *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*map(chr, range(33, 127)), *map("".join, merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    built = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    built.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(Regex(" "), "▁")]
    )
    steps = (decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse())
    built.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    built.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, chat_template=CHAT, **special)


def smollm2():
    """The default model's."""
    from alps.config.build import build, compose_config
    from alps.models.checkpoint import materialize
    from alps.models.load import load_tokenizer

    return load_tokenizer(materialize(build(compose_config(["evals=none"])).model))


TOKENIZERS = {
    "bytes": byte_level,
    "merges": lambda: byte_level([(":", "Ċ")]),
    "begins": lambda: byte_level(single="<s> $A"),
    "closes": lambda: byte_level(single="$A </s>"),
    "begins and closes": lambda: byte_level([(":", "Ċ")], "<s> $A </s>"),
    "sentencepiece": sentencepiece_like,
    "smollm2": smollm2,
}


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[str], Any]:
    """A tokenizer by its kind: see `TOKENIZERS`."""
    return lambda kind: TOKENIZERS[kind]()


@pytest.fixture(scope="session")
def data_in() -> Callable[[str], Any]:
    """The default data in a template."""
    from alps.config.build import build, compose_config

    return cache(lambda t: build(compose_config(["evals=none", f"data.template={t}"])).data)


@pytest.fixture
def make_subject(data_in, tmp_path, make_tokenizer):
    """Evaluation context of a small model with a tokenizer of some kind."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from alps.evals.context import EvaluationContext
    from alps.evals.engine.language_model import language_model

    def make(kind: str = "bytes", template: str = "alpaca", batch_size: Any = 2, **config):
        tokenizer = make_tokenizer(kind)
        if more := config.pop("additional_special_tokens", None):
            tokenizer.add_special_tokens({"additional_special_tokens": more})
        torch.manual_seed(0)
        shape = dict(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            vocab_size=len(tokenizer), initializer_range=0.4,
        )  # fmt: skip
        model = LlamaForCausalLM(LlamaConfig(**{**shape, **config})).eval()
        return EvaluationContext(
            build_language_model=language_model,
            model=model,
            tokenizer=tokenizer,
            data=data_in(template),
            batch_size=batch_size,
            folder=tmp_path / "answers",
            weights="w",
        )

    return make
