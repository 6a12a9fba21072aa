"""Benchmarks and problems made by hand, a model that answers as told, a sandbox to try."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from alps.evals import sandbox
from alps.evals.evalplus_problems import Dataset, Problems, subset
from alps.evals.sandbox import Part, Request, Sandbox
from alps.evals.sandbox_backend import installed
from alps.evals.sandbox_values import decode


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

    from alps.evals import harness_run
    from alps.evals.journal import Journal
    from alps.evals.language_model import LanguageModel
    from alps.evals.subject import Subject
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

        class Examined(Subject):
            def language_model(self, protocol, title):
                template = {"alpaca": "alpaca", "meta": "chat"}.get(protocol, "plain")
                journal = Journal(self.folder, "told")
                return LanguageModel(Told(answer, asked), journal, tokenizer, template, title)

        subject = Examined(
            model=None,
            tokenizer=tokenizer,
            data=None,
            batch_size=1,
            folder=asked.folder,
            weights="told",
            data_dir=tmp_path / "documents",
        )
        harness_run._warned.clear()
        asked.card = benchmark.evaluate(subject)
        assert not harness_run._warned, "a benchmark of ours gives lm-eval nothing to warn of"
        return asked

    return evaluate


@pytest.fixture(scope="session")
def problems() -> Callable[..., Problems]:
    """Problems that ask for a function `double`; `changes` are fields of each."""

    def make(count: int, dataset: Dataset = "humaneval", **changes) -> Problems:
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
        self, code: str, *inputs, seconds=5.0, limit=4.0, most_bytes=1 << 16, **changes
    ) -> list[bytes]:
        """Every line that comes out of calling `f` with each of `inputs`."""
        parts = [Part(name="p", inputs=inputs, limits=[limit] * len(inputs), seconds=seconds)]
        changes = {"memory": 1 << 29, **changes}
        wanted = Request(code=code, entry_point="f", parts=parts, **changes)
        with self.started(wanted, most_bytes) as conversation:
            return list(conversation.lines())

    def result_of(self, code: str, *given, **changes) -> Any:
        """What `f` returns, or the line that says why there is nothing."""
        line = self.lines_of(code, given, **changes)[0]
        return decode(line[1:]) if line[:1] == b"v" else line


@pytest.fixture(scope="module")
def runtime_dir() -> Iterator[Path]:
    with sandbox.runtime() as folder:
        yield folder


@pytest.fixture
def box(runtime_dir) -> Box:
    backend = installed()
    assert backend is not None  # a test marked `sandbox` is skipped without one
    return Box(backend, runtime_dir)
