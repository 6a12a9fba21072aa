"""Runs for pages, among them one whose every text tries to run a script."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from alps.report.page.content import About, page_content
from alps.report.page.page_run import runs_in_folder
from alps.report.page.write import write_page
from alps.runs.folder import RunFolder

HOSTILE = "</script><img src=x onerror=\"window.hacked='yes'\"><!--<script> & <b>`${x}`\u2028'\""
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def curve():
    """Leaves `metrics.csv` with this number of steps."""

    def leave(run, steps: int = 12) -> None:
        lines = ["step,loss,lr,tokens,seconds"]
        lines += [f"{s},{2 + 1 / s},0.001,{100 * s},{s * 0.25}" for s in range(1, steps + 1)]
        RunFolder(run.folder).metrics_path.write_text("\n".join(lines) + "\n")

    return leave


@pytest.fixture
def some_runs(made, curve):
    """w/ full, ALPS and Random with heads and curves, the base model, and a failed run."""
    right = {
        "full": [1, 1, 1, 1, 0, 1, 1, 0],
        "alps": [1, 1, 0, 1, 0, 1, 1, 0],
        "random": [0, 1, 0, 1, 0, 1, 0, 0],
    }
    found = {}
    for i, (method, answers) in enumerate(right.items()):
        found[method] = run = made.run(method)
        share = {"full": 1.0, "alps": 0.1, "random": 0.11}[method]
        made.finish(
            run, {"gsm8k": answers}, trainable_fraction=share, train_seconds=10.5 * (3 - i),
            peak_memory_bytes=2**30, deviations=["fewer steps"] if i else [],
        )  # fmt: skip
        curve(run)
        if method != "full":
            made.heads(run, [(0, 1), (2, i)])
    made.finish_base(found["full"], {"gsm8k": [0, 1, 0, 0, 0, 1, 0, 0]})
    found["failed"] = made.run("lora")
    made.fail(found["failed"], "ran out of memory")
    return found


@pytest.fixture
def hostile_run(made, curve):
    """A finished run with hostile texts in name, settings, heads, samples and deviations."""
    run = made.run("alps", data=HOSTILE, model=HOSTILE)
    made.finish(run, {"gsm8k": [1, 0]}, deviations=[HOSTILE], versions={HOSTILE: HOSTILE})
    folder = RunFolder(run.folder)
    curve(run)
    heads = made.heads(run, [(0, 1)]).to_json()
    folder.heads_path.write_text(json.dumps({**heads, "metric": HOSTILE}))
    samples = folder.path / "evals" / "gsm8k" / "alpaca" / "samples_gsm8k.jsonl"
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line in lines:
        line |= {
            "arguments": {"gen_args_0": {"arg_0": HOSTILE}},
            "filtered_resps": [HOSTILE + "\ud83d"],
            "target": HOSTILE,
        }
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def page(made):
    """Writes the page about the runs of the test; its path."""

    def write(name: str = "index.html") -> Path:
        runs = runs_in_folder(made.output_dir)
        about = About(title="runs", source="here", command="alps dashboard")
        path = made.output_dir / name
        write_page(page_content(runs, about), path)
        return path

    return write


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """`benchmarks/synthetic_runs.py`."""
    spec = spec_from_file_location("synthetic_runs", BENCHMARKS / "synthetic_runs.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
