"""Runs with result files as training and evaluation leave them, and a terminal of any width."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from alps.base.atomic import write_json
from alps.base.serialization import to_dict
from alps.data.sources.mini import Mini
from alps.evals.evalplus.benchmark import EvalPlus
from alps.evals.harness.benchmark import HarnessTask
from alps.evals.held_out import LOSSES_FILE, HeldOut
from alps.evals.statistics import Ratio, point_estimate, uncertainty
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.methods.dense import Full, NoAttention
from alps.methods.lora import LoRA
from alps.methods.sampled import RandomHeads
from alps.methods.scored import Scored
from alps.runs.completion import base_result
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark, Method
from alps.settings.model import Model
from alps.settings.run import Optim, Run, TaskModel

TASKS = {"ultrachat": "general", "mathinstruct": "math", "magicoder": "code"}
GEOMETRY = Geometry(num_layers=4, num_heads=6, num_kv_heads=2, head_dim=8)


def harness(name: str, task: str, **changes) -> HarnessTask:
    asked = {"protocol": "alpaca", "changes": "x.yaml", "metrics": {"accuracy": "exact,first"}}
    return HarnessTask(name=name, task=task, **{**asked, **changes})


def code(name: str, tests: str) -> EvalPlus:
    return EvalPlus(name=name, protocol="alpaca", task="code", dataset="humaneval", tests=tests)


BENCHMARKS: Mapping[str, Benchmark] = {
    "gpqa": harness("gpqa", "general"),
    "gsm8k": harness("gsm8k", "math"),
    "humaneval": code("humaneval", "base"),
    "humaneval_plus": code("humaneval_plus", "plus"),
    "held_out": HeldOut(name="held_out", protocol="answer_tokens"),
}


def number(name: str) -> int:
    """Another one for another name, so that runs have keys of their own."""
    return zlib.crc32(name.encode())


@dataclass
class Made:
    """Makes runs below one outputs folder."""

    output_dir: Path

    def run(
        self,
        method: str = "full",
        data: str = "mathinstruct",
        benchmarks: Sequence[str] = ("gsm8k",),
        model: str = "llama3_2_1b",
        **changes,
    ) -> Run:
        """A run; `ratio`, `scope`, `task_model` and `task_data` are those of its method."""
        own = {n: changes.pop(n) for n in ("ratio", "scope", "task_model", "task_data")
               if n in changes}  # fmt: skip
        optim = Optim(lr=1e-4, batch_size=8, epochs=1, precision="auto")
        run = Run(
            method=self.method(method, **own),
            model=Model(name=model, random={"hidden_size": 16}, seed=number(model)),
            data=self.data(data),
            optim=optim,
            evals=Evals(name="own", benchmarks=tuple(BENCHMARKS[b] for b in benchmarks)),
            output_dir=str(self.output_dir),
        )
        return replace(run, **changes)

    def method(
        self,
        name: str,
        ratio: float = 0.1,
        scope: str = "rest_trains",
        task_model: str = "sft",
        task_data: str | None = None,
    ) -> Method:
        if name == "full":
            return Full(name=name)
        if name == "no_attn":
            return NoAttention(name=name)
        if name == "lora":
            return LoRA(name=name)
        heads = {"ratio": ratio, "scope": scope}
        if name in ("random", "layer_consistent"):
            return RandomHeads(name=name, **heads)
        other = self.data(task_data) if task_data else None
        share = 1.0 if task_model == "sft" else 1 / len(task_model)
        by = TaskModel(name=task_model, method=Full(name="full"), fraction=share, data=other)
        return Scored(name=name, metric="pad", task_model=by, **heads)

    def data(self, name: str) -> Mini:
        task = TASKS.get(name, "math")
        return Mini(name=name, task=task, generator=f"mini_{task}", subset_seed=number(name))

    def finish(self, run: Run, answers: Mapping[str, Sequence[float]], **changes) -> Result:
        """Leaves result, evaluations and samples.

        Args:
            run: The run.
            answers: Benchmark -> for each document, whether it was right.
            changes: Fields of the result.
        """
        folder = RunFolder(run.folder)
        folder.write_run(run)
        return self._leave(run, folder, run.key, run.method.name, answers, changes)

    def finish_base(self, run: Run, answers: Mapping[str, Sequence[float]], **changes) -> Result:
        """The same for the run's base model."""
        for folder, reads_data in ((run.base_folder, False), (run.base_data_folder, True)):
            own = {n: a for n, a in answers.items() if BENCHMARKS[n].reads_data == reads_data}
            if own:
                self._leave(run, RunFolder(folder), folder.name, "base", own, changes)
        result = base_result(run)
        assert result is not None
        return result

    def fail(self, run: Run, reason: str) -> None:
        """A run that could not go on."""
        folder = RunFolder(run.folder)
        folder.write_run(run)
        folder.set_status("failed", reason)

    def heads(self, run: Run, chosen: Sequence[tuple[int, int]]) -> HeadSet:
        """Leaves `heads.json` with scores that fall from head to head."""
        g = GEOMETRY
        scores = tuple(
            tuple(1.0 / (1 + layer * g.num_heads + h) for h in range(g.num_heads))
            for layer in range(g.num_layers)
        )
        made = HeadSet(
            heads=tuple(chosen), geometry=g, metric="pad", ratio=0.1, base_hash="b", scores=scores
        )
        write_json(RunFolder(run.folder).heads_path, made.to_json())
        return made

    def _leave(self, run, folder, key, method, answers, changes) -> Result:
        evals, sure = {}, {}
        for name, right in answers.items():
            benchmark = next((b for b in run.evals.benchmarks if b.name == name), BENCHMARKS[name])
            found = self._evaluate(folder, benchmark, right)
            evals[name], sure[name] = found.metrics, found.uncertainty
        facts = {
            "key": key, "model": run.model.name, "data": run.data.name, "method": method,
            "num_trainable": 1, "trainable_fraction": 0.5, "data_hash": f"{run.data.name}-hash",
            "base_hash": f"{run.model.name}-hash", "precision": "32-true", "devices": 1,
            "train_seconds": 3600.0, "seed": run.seed, "versions": {"alps": "1", "torch": "2"},
            "git_commit": "c" * 40, "git_dirty": False, "evals": evals, "uncertainty": sure,
            **changes,
        }  # fmt: skip
        result = Result(**facts)
        result.write(folder.result_path)
        folder.set_status("finished")
        return result

    def _evaluate(self, folder: RunFolder, benchmark: Benchmark, right) -> Evaluation:
        own = folder.evaluation_path(benchmark.name, benchmark.protocol).with_suffix("")
        if isinstance(benchmark, HarnessTask):
            lines = [
                {"doc_id": i, "doc_hash": f"h{i}", "filter": "first", "exact": float(r)}
                for i, r in enumerate(right)
            ]
            own.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (own / f"samples_{benchmark.name}.jsonl").write_text(text)
        elif isinstance(benchmark, EvalPlus):
            self._verdicts(benchmark.folder(own), benchmark.tests, right)
        elif isinstance(benchmark, HeldOut):
            losses = {"documents": "d", "losses": list(right), "tokens": [1] * len(right)}
            write_json(own / LOSSES_FILE, losses)
        part = Ratio([float(r) for r in right], proportion=not isinstance(benchmark, HeldOut))
        spread = uncertainty(part)
        found = Evaluation(
            benchmark=to_dict(benchmark),
            weights="w",
            documents=f"{benchmark.name}@1",
            metrics={
                "loss" if isinstance(benchmark, HeldOut) else "accuracy": point_estimate(part)
            },
            uncertainty={"accuracy": vars(spread)} if spread else {},
            num_documents=len(right),
            versions={"lm-eval": "0.4", "evalplus": "0.3"},
        )
        found.write(folder)
        return found

    def _verdicts(self, folder: Path, tests: str, right) -> None:
        """Both benchmarks share a file, as their programs are the same."""
        path = folder / "verdicts.json"
        notes = json.loads(path.read_text())["notes"] if path.exists() else {}
        for i, passed in enumerate(right):
            note = notes.setdefault(f"HumanEval/{i}", {"hardened": {"base": "pass"}})
            note["hardened"][tests] = "pass" if passed else "fail"
        write_json(path, {"notes": notes})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "outputs")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has what is printed go to a terminal of so many columns, or into a file."""

    def pretend(columns: int | None, colour: bool = False) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        if columns:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("TERM", "xterm-256color")
            monkeypatch.setenv("COLUMNS", str(columns))
            if not colour:
                monkeypatch.setenv("NO_COLOR", "1")

    return pretend
