"""Every command line in README and docs composes; those marked `# run` are run, made tiny."""

import csv
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from alps.base.serialization import SettingsError
from alps.cli.__main__ import JOB_COMMANDS, TRACKING_COMMANDS
from alps.cli.arguments import split_settings
from alps.cli.dashboard import parse_request as parse_dashboard
from alps.cli.doctor import parse
from alps.cli.embed import parse_request
from alps.cli.jobs.status import select
from alps.cli.jobs.submit import launcher_settings
from alps.cli.localize import list_override
from alps.cli.plan import experiment_runs, split_plan_settings
from alps.cli.report_settings import parse_settings
from alps.config.build import (
    build,
    build_assumed,
    build_request,
    compose_config,
    explain,
    runs_of,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "experiments").rglob("*.md"))


COMMANDS = (
    "train|evaluate|localize|heads|data|embed|doctor|plan|prefetch|runs|report|dashboard|export"
    "|sync|workspace|submit|status|logs|cancel|retry"
)


def commands() -> list[tuple[str, str]]:
    """(page, line) of every alps command inside a code block, in backticks, or in a `--help`."""
    found = []
    for name in COMMANDS.split("|"):
        folder = "tracking." if name in TRACKING_COMMANDS else ""
        folder = "jobs." if name in JOB_COMMANDS else folder
        command = import_module(f"alps.cli.{folder}{name}").command
        found += [(f"alps {name} --help", line) for line in getattr(command, "examples", ())]
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:alps|python train\.py) [^`]+)`", re.sub(r"```.*?```", "", text))
        found += [
            (page.name, line.strip())
            for line in lines
            if re.match(rf"\s*(alps ({COMMANDS})|python train\.py) ?\S", line)
        ]
    return found


def overrides(line: str) -> tuple[str, list[str]]:
    """The subcommand and its settings; placeholders and flags left out."""
    words = shlex.split(line.split("  #")[0])
    words = ["train", *words[2:]] if words[0] == "python" else words[1:]
    return words[0], [w for w in words[1:] if "=" in w and w not in ("...",)]


def test_the_pages_have_commands():
    assert len(commands()) >= 8


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_composes(page: str, line: str, tmp_path: Path):
    command, settings = overrides(line)
    if command == "heads":
        assert " show " in line or " compare " in line
        return
    if command in ("runs", "sync", "logs"):
        return  # a filter may be anything
    if command in ("status", "cancel", "retry"):
        select([s for s in settings if not s.startswith(("hydra", "poll_seconds="))])
        return
    if command == "submit":
        slurm, grid = launcher_settings([s for s in settings if s != "hydra/launcher=mine"])
        assert experiment_runs(grid) and slurm, line
        return
    if command == "dashboard":
        asked = parse_dashboard([w for w in shlex.split(line.split("  #")[0])[2:] if w != "..."])
        assert all(runs_of([f"experiment={e}", *asked.filters]) for e in asked.experiments), line
        return
    if command == "export":
        assert all(s.split("=")[0] in ("run", "format", "to") for s in settings), line
        return
    if command == "data":
        settings = split_settings(settings, ("samples",)).others
    if "runners_up" in line or "capitals" in line:
        return  # docs/add_a_method.md and add_a_benchmark.md add them; tested below
    if command == "localize":
        build_request(compose_config([list_override(s) for s in settings], "localize"))
        return
    named = re.findall(r"[\w.]+\.jsonl", line)  # in data=a.jsonl,b.jsonl
    for name in ("rows.jsonl", "rows.json", *named):
        (tmp_path / name).write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    if command == "embed":
        parse_request(settings)
        return
    if command == "doctor":
        assert parse(settings)[0].runs, line
        return
    if command == "plan":
        own, rest = split_plan_settings(settings)
        assert build_assumed(own) and experiment_runs(rest), line
        return
    if command == "workspace":
        assert runs_of([s for s in settings if not s.startswith("metrics=")]), line
        return
    if "logger=trackio" in line:
        pytest.importorskip("trackio")
    if command == "report":
        asked = parse_settings(settings)
        assert all(runs_of([f"experiment={e}", *asked.settings]) for e in asked.experiment), line
        return
    settings = [s.replace("data.path=rows", f"data.path={tmp_path}/rows") for s in settings]
    settings = [s.replace("data_dir=FOLDER", f"data_dir={tmp_path}") for s in settings]
    single = [s for s in settings if "," not in s or "[" in s]  # a list of benchmarks is no sweep
    swept = [s for s in settings if s not in single]
    name = "evaluate" if command == "evaluate" else "train"
    points = [[f"{s.split('=')[0]}={v}" for v in s.split("=")[1].split(",")] for s in swept]
    for choice in [[], *([v] for values in points for v in values)]:
        try:
            build(compose_config([*single, *choice], name))
        except SettingsError as error:
            pytest.fail(f"{page}: {line}: {error} {explain(settings)}")


def test_commands_marked_run_do_run(cli):
    marked = [(line, m[1]) for _, line in commands() if (m := re.search(r"# run: (.+)$", line))]
    assert marked
    for line, small in marked:
        command, settings = overrides(line)
        flags = ["-m"] if " -m " in line else []
        cli(command, *flags, *settings, *small.split(), check=0)


def demo() -> list[str]:
    """The lines of `make demo`."""
    recipe = re.search(r"^demo: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    return [line.strip() for line in recipe.splitlines()]


def test_the_demo_goes_through_and_ends_with_its_pictures(cli, tmp_path):
    """Its commands, made tiny; `ls` lists the table and the heads that ALPS chose."""
    small = ("model=tiny", "data.max_examples=16", "evals.limit=2")
    ran = [shlex.split(line.removeprefix("$(BIN)/alps ")) for line in demo() if "/alps " in line]
    for words in ran:
        printed = cli(*words, *small, check=0).stdout
    assert [words[0] for words in ran] == ["evaluate", "train", "report"]
    assert all(row in printed for row in ("vanilla", "w/ full", "ALPS, 10%", "Random, 10%"))
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["bars.png", "heads_tiny_mini_general_alps.png"]
    assert demo()[-1] == "@ls outputs/reports/demo/*.png"


def test_the_readme_has_what_the_demo_prints():
    readme = (ROOT / "README.md").read_text()
    printed = [line.removeprefix('@echo "')[:-1] for line in demo() if line.startswith('@echo "')]
    assert len(printed) > 3 and "\n".join(printed) in readme
    (run,) = runs_of(["experiment=demo", "method=full"])
    assert f"on {run.data.max_examples} generated instructions" in readme
    assert f"after {run.data.max_examples} short rows" in readme
    assert f"and {run.evals.benchmarks[-1].limit} questions" in readme
    model, data = run.model.name, run.data.name
    assert f"outputs/reports/demo/heads_{model}_{data}_alps.png\n" in readme


def test_adding_a_method_as_documented_works(alps, tmp_path):
    """The guide's own code, as files outside the package, trained end to end."""
    page = (ROOT / "docs" / "add_a_method.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S)[1]
    yaml = re.search(r"```yaml\n(.*?)```", page, re.S)[1]
    (tmp_path / "runners_up.py").write_text(code)
    folder = tmp_path / "conf" / "method"
    folder.mkdir(parents=True)
    (folder / "runners_up.yaml").write_text(yaml.replace("alps.methods.runners_up", "runners_up"))
    import os

    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    settings = [
        "method=runners_up",
        "model=tiny",
        "data.max_examples=16",
        "evals=none",
        "ratio=0.2",
    ]
    search = f"hydra.searchpath=[file://{tmp_path}/conf]"
    done = alps("train", search, *settings, check=0, env={**os.environ, "PYTHONPATH": path})
    assert "runners_up" in done.stdout
    (heads,) = tmp_path.glob("outputs/runs/runners_up-*/heads.json")
    assert '"metric": "pad"' in heads.read_text()


def test_adding_a_benchmark_as_documented_works(cli, tmp_path):
    """The guide's own files, outside the package, asked of a model with random weights."""
    page = (ROOT / "docs" / "add_a_benchmark.md").read_text()
    task, benchmark = re.findall(r"```yaml\n(.*?)```", page, re.S)
    rows: dict = {}
    exec(re.search(r"```python\n(ROWS = .*?\n\])", page, re.S)[1], rows)
    (tmp_path / "capitals.yaml").write_text(task)
    folder = tmp_path / "conf" / "evals" / "benchmark"
    folder.mkdir(parents=True)
    path = f"changes: {tmp_path}/capitals.yaml"
    (folder / "capitals.yaml").write_text(benchmark.replace("changes: capitals.yaml", path))
    (tmp_path / "capitals").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows["ROWS"])
    (tmp_path / "capitals" / "test.jsonl").write_text(lines)
    settings = [
        f"hydra.searchpath=[file://{tmp_path}/conf]",
        "model=tiny",
        "evals=[capitals]",
        f"evals.data_dir={tmp_path}",
        "data.max_examples=16",
        "optim.max_steps=1",
        "method=full",
    ]
    cli("train", *settings, check=0)
    (result,) = tmp_path.glob("outputs/runs/*/evals/capitals/alpaca.json")
    assert json.loads(result.read_text())["num_documents"] == 3
    wrong = "evals.benchmarks.capitals.metrics.accuracy='exact_mach,first'"
    done = cli("train", *settings, wrong, f"output_dir={tmp_path}/new", check=2)
    assert "the task computes no 'exact_mach', did you mean 'exact_match'?" in done.stderr
    assert not (tmp_path / "new").exists()


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_table_in_the_readme_is_the_generated_one():
    with (ROOT / "experiments" / "table3" / "results.csv").open() as file:
        cells = {(c["row"].split(", ")[1], c["column"]): c for c in csv.DictReader(file)}
    scores = ("mini_general", "mini_math", "mini_code", "Avg.")
    losses = [f"held_out loss ({data})" for data in scores[:3]]
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^\| (\d+) %.*\| (.+) \|$", text, re.M)
    assert [share for share, _ in lines] == ["100", "70", "50", "30", "10", "0"]
    for line in re.findall(r"^\| (?=\d+ %)(.+) \|$", text, re.M):
        share, *numbers, less, general, math, code = line.split(" | ")
        row = share.split()[0] + "%"
        assert numbers == [f"{float(cells[row, c]['value']):.2f}" for c in scores]
        assert [general, math, code] == [f"{float(cells[row, c]['value']):.3f}" for c in losses]
        change = cells[row, "Δ w/ full"]
        ends = [f"{float(change[e]):+.2f}".replace("-", "−") for e in ("low", "high") if change[e]]
        assert less == (" to ".join(ends) or "—")


def test_files_that_pages_name_exist():
    """But for those that a guide adds."""
    folders = [
        ROOT,
        ROOT / "src/alps",
        ROOT / "src/alps/doctor",
        ROOT / "tests/evals/sandbox",
        ROOT / "src/alps/evals/engine",
    ]
    added = {"runners_up", "test_runners_up", "minkowski", "riddles", "test_riddles"}
    added |= {"test_capitals"}
    for page in [*PAGES, ROOT / "benchmarks" / "README.md"]:
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text()):
            if Path(name).stem not in added:
                places = [*folders, page.parent, ROOT / "src"]
                assert any((place / name).exists() for place in places), f"{page.name}: {name}"
