import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from alps.data.template import ALPACA
from alps.evals.context import EvaluationContext
from alps.evals.engine.language_model import language_model
from alps.evals.evalplus import benchmark as evalplus_benchmark
from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.benchmark import EvalPlus
from alps.evals.evalplus.verdicts import Verdicts

NUM_ROWS = {"humaneval": 164, "mbpp": 378}
FILES = {
    "humaneval": "humaneval_plus/HumanEvalPlus.jsonl.gz",
    "mbpp": "mbpp_plus/MbppPlus.jsonl.gz",
}


@dataclass(frozen=True, kw_only=True)
class Scripted(EvaluationContext):
    """A subject whose answers are made from the prompt."""

    answer: Callable[[str], str]
    rank: int = 0
    world_size: int = 1
    asked: list = field(default_factory=list)
    gathered: dict = field(default_factory=dict)

    build_language_model: Callable = field(
        default=lambda subject, protocol, title: ScriptedModel(subject)
    )


class ScriptedModel:
    def __init__(self, subject):
        self.subject, self.rank, self.world_size = subject, subject.rank, subject.world_size

    def apply_chat_template(self, history, add_generation_prompt=True):
        return ALPACA.format(instruction=history[0]["content"])

    def generate_until(self, requests):
        self.subject.asked.extend((self.subject.folder, r.args) for r in requests)
        assert all(r.request_type == "generate_until" for r in requests)
        return [self.subject.answer(r.args[0]) for r in requests]

    def details(self):
        return {"decoding": "as asked"}

    def gather_object(self, obj):
        self.subject.gathered[self.rank] = obj
        ranks = range(self.world_size)
        return [self.subject.gathered[r] for r in ranks] if self.rank == 0 else None


class NoChat:
    chat_template = None


def humaneval_row(number):
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def add_{number}(x):\n    """x plus {number}."""\n',
        "entry_point": f"add_{number}",
        "contract": "",
        "canonical_solution": f"    return x + {number}\n",
        "base_input": [[1], [2]],
        "plus_input": [[-1]],
        "atol": 0,
    }


def mbpp_row(number):
    row = humaneval_row(number)
    prompt = f'"""\nWrite a function add_{number} of x.\n"""\n'
    solution = f"def add_{number}(x):\n{row['canonical_solution']}"
    own = {"task_id": f"Mbpp/{1000 + number}", "prompt": prompt, "canonical_solution": solution}
    return {**row, **own}


@pytest.fixture
def data_dir(tmp_path):
    for dataset, make in (("humaneval", humaneval_row), ("mbpp", mbpp_row)):
        path = tmp_path / "data" / FILES[dataset]
        path.parent.mkdir(parents=True)
        rows = (make(n) for n in range(NUM_ROWS[dataset]))
        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    return tmp_path / "data"


@pytest.fixture
def subject(tmp_path, data_dir):
    def make(answer, name="humaneval", protocol="alpaca", **changes):
        own = {"model": None, "tokenizer": NoChat(), "data": None, "batch_size": 1, "weights": "w"}
        folder = tmp_path / "evals" / name / protocol
        return Scripted(**own, data_dir=data_dir, folder=folder, answer=answer, **changes)

    return make


def benchmark(name="humaneval", **changes):
    dataset, _, plus = name.partition("_")
    wanted = {"tests": plus or "base", "protocol": "alpaca", "task": "code", "limit": 4}
    return EvalPlus(**{"name": name, "dataset": dataset, **wanted, **changes})


def clever(prompt):
    """Right for 0 and 3, for 1 only where x is positive, wrong for 2."""
    number = int(prompt.rsplit("add_", 1)[1].split("(")[0].split()[0])
    body = {1: "abs(x + 1) or 2", 2: "x"}.get(number, f"x + {number}")
    return f"def add_{number}(x):\n    return {body}\n```\nThat's it."


@pytest.mark.sandbox
def test_base_and_plus_share_answers_and_verdicts(subject, tmp_path, monkeypatch):
    base = benchmark("humaneval").evaluate(subject(clever))
    assert base.metrics == {"pass@1": 0.75} and base.num_documents == 4
    assert base.details["failed"] == {"base tests": 1} and base.details["passed"] == 3
    monkeypatch.setattr(evalplus_scoring, "_judge", None)  # not judged again
    examined = subject(clever, "humaneval_plus")
    plus = benchmark("humaneval_plus").evaluate(examined)
    assert plus.metrics == {"pass@1": 0.5}
    assert plus.details["failed"] == {"base tests": 1, "plus tests only": 1}
    folder = tmp_path / "evals/humaneval/alpaca"
    assert {place for place, _ in examined.asked} == {folder}
    assert (folder / "samples.jsonl").exists() and not (tmp_path / "evals/humaneval_plus").exists()


@pytest.mark.sandbox
def test_what_a_reader_wants_to_know(subject):
    card = benchmark("humaneval").evaluate(subject(clever))
    assert card.details["problems"] == "HumanEval+ v0.1.10, first 4"
    assert card.details["evalplus"] == "0.3.1" and card.details["timeouts"] == 0
    assert card.details["stock_pass@1"] == card.metrics["pass@1"]
    assert card.details["other_in_evalplus"] == []
    assert card.details["sandbox"] == "bubblewrap"
    assert card.details["decoding"] == "as asked"
    sure = card.uncertainty["pass@1"]
    assert sure.stderr == pytest.approx(0.25) and sure.low < 0.75 <= sure.high
    assert json.loads(json.dumps(card.details)) == card.details


@pytest.mark.sandbox
def test_one_problem_has_no_spread(subject):
    card = benchmark("humaneval", limit=1).evaluate(subject(clever))
    assert card.metrics == {"pass@1": 1.0} and not card.uncertainty


def test_where_evalplus_says_otherwise_is_told(subject, monkeypatch):
    verdicts = {"HumanEval/0": True, "HumanEval/1": False}
    wanted = benchmark(limit=2)
    judged = Verdicts({"eval": {}}, {}, "bubblewrap")
    monkeypatch.setattr(Verdicts, "passed_in_evalplus", lambda *_, **__: verdicts)
    notes = {"judged_again": False, "sanitized": True, "reason": None}
    judged = replace(judged, notes={t: notes | {"hardened": {"base": "pass"}} for t in verdicts})
    card = wanted._result(wanted.load_problems(subject(clever).data_dir), judged, {})
    assert card.metrics == {"pass@1": 1.0} and card.details["stock_pass@1"] == 0.5
    assert card.details["other_in_evalplus"] == ["HumanEval/1"]


@pytest.mark.sandbox
def test_questions_are_greedy_and_as_long_as_asked(subject):
    examined = subject(clever)
    benchmark("humaneval", max_new_tokens=5).evaluate(examined)
    _, (prompt, options) = examined.asked[0]
    assert options["max_gen_toks"] == 5 and options["do_sample"] is False
    assert "\n```\n" in options["until"] and "\nif __name__" in options["until"]
    assert prompt.endswith("tests:\n```python\n") and len(examined.asked) == 4


@pytest.mark.sandbox
def test_mbpp_under_plain(subject):
    examined = subject(lambda p: clever(p.replace(" of x", "(")), "mbpp_plus", "plain")
    card = benchmark("mbpp_plus", protocol="plain").evaluate(examined)
    assert card.metrics == {"pass@1": 0.5}, card.details
    folder, (prompt, options) = examined.asked[0]
    assert prompt == '"""\nWrite a function add_0 of x.\n"""\n'
    assert options["until"][-2:] == ['\n"""', "\nassert"]
    assert folder.parts[-2:] == ("mbpp", "plain")


@pytest.mark.sandbox
def test_ranks_share_the_problems(subject, tmp_path):
    asked, gathered = [], {}
    both = {"world_size": 2, "gathered": gathered}
    other = subject(clever, rank=1, asked=asked, **both)
    assert benchmark(limit=3).evaluate(other) is None
    assert len(asked) == 1 and not (tmp_path / "evals").exists()
    card = benchmark(limit=3).evaluate(subject(clever, asked=asked, **both))
    assert len(asked) == 3 and card.num_documents == 3
    assert card.metrics["pass@1"] == pytest.approx(2 / 3)
    samples = (tmp_path / "evals/humaneval/alpaca/samples.jsonl").read_text().splitlines()
    assert [json.loads(s)["task_id"] for s in samples] == [f"HumanEval/{n}" for n in range(3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens of benchmark humaneval must be at least 1"),
        ({"protocol": "answer_tokens"}, "protocols alpaca, plain, meta, not answer_tokens"),
        ({"limit": 0}, "limit of benchmark humaneval must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used(changes, message):
    [problem] = benchmark(**changes).problems()
    assert message in problem
    assert not list(benchmark().problems())


def test_ready_reads_the_file_and_knows_the_package(data_dir, monkeypatch):
    wanted = benchmark()
    wanted.ready(data_dir)
    monkeypatch.setattr(evalplus_benchmark, "version", lambda _: "0.4.0")
    with pytest.raises(ValueError, match=r"needs evalplus 0\.3\.1, found 0\.4\.0"):
        wanted.ready(data_dir)
    monkeypatch.undo()
    (data_dir / FILES["humaneval"]).write_bytes(b"")
    with pytest.raises(ValueError, match="has 0 problems"):
        wanted.ready(data_dir)


def test_fetch_and_fingerprint(data_dir):
    wanted = benchmark(limit=None)
    assert wanted.fetch(data_dir) == "164 problems, HumanEval+ v0.1.10"
    first = wanted.fingerprint(data_dir)
    path = data_dir / FILES["humaneval"]
    path.write_bytes(path.read_bytes() + b"\0")
    assert len(first) == 64 and wanted.fingerprint(data_dir) != first
    assert wanted.fingerprint(None) == "HumanEvalPlus@v0.1.10"
    assert benchmark("mbpp").fingerprint(None) == "MbppPlus@v0.2.0"
    assert wanted.fingerprint(Path("nowhere")) is None


@pytest.mark.sandbox
def test_a_real_model_under_every_protocol(make_run, data_dir, tmp_path):
    from alps.models.checkpoint import materialize
    from alps.models.load import load_model, load_tokenizer

    run = make_run()
    base = materialize(run.model)
    own = {"model": load_model(base).eval(), "tokenizer": load_tokenizer(base), "data": run.data}
    own[
        "tokenizer"
    ].chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    for protocol in ("alpaca", "plain", "meta"):
        folder = tmp_path / "evals/humaneval" / protocol
        subject = EvaluationContext(
            build_language_model=language_model,
            **own,
            batch_size=2,
            folder=folder,
            weights=str(base),
            data_dir=data_dir,
        )
        card = replace(benchmark(limit=2, max_new_tokens=6), protocol=protocol).evaluate(subject)
        assert card.metrics == {"pass@1": 0.0} and card.num_documents == 2
        raw = json.loads((folder / "samples.raw.jsonl").read_text().splitlines()[0])["solution"]
        assert raw.startswith('def add_0(x):\n    """x plus 0."""\n') is (protocol == "plain")


def test_every_choice_builds_and_needs_a_sandbox_or_consent(monkeypatch):
    from alps.config.build import build, compose_config
    from alps.evals.sandbox.backend import UNPROTECTED

    monkeypatch.setattr(
        "alps.evals.sandbox.availability.available_backend", lambda: UNPROTECTED
    )  # here is one
    small = ["model=tiny", "data=mini_code", "evals=code"]
    names = ["humaneval", "humaneval_plus", "mbpp", "mbpp_plus"]
    evals = build(compose_config(small)).evals
    loss, *judged = evals.allowed
    assert loss.name == "held_out" and [b.name for b in judged] == names and evals.refused == ()
    assert [b.tests for b in judged] == ["base", "plus"] * 2
    assert {b.max_new_tokens for b in judged} == {768}
    monkeypatch.setattr("alps.evals.sandbox.availability.available_backend", lambda: None)
    assert evals.allowed == (loss,) and [b.name for b in evals.refused] == names
    consented = build(compose_config([*small, "evals.allow_unsafe_code=true"])).evals
    assert [b.name for b in consented.allowed] == ["held_out", *names] and consented.refused == ()
    mini = build(compose_config(["model=tiny", "data=mini_code", "evals=mini"])).evals
    assert [b.name for b in mini.allowed] == ["held_out"] and mini.refused == ()
