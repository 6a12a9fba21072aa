import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alps.evals.evalplus import scoring as evalplus_scoring
from alps.evals.evalplus.problems import RELEASES, load_release
from alps.evals.evalplus.scoring import score

pytestmark = [pytest.mark.sandbox]

RIGHT = "def double(x):\n    return 2 * x\n"
LONG = 'NUMBERS = [\n    1,\n    2,\n]\n\n"""text"""\n'  # what sanitizing leaves out


def named(problem_set, programs):
    return {r["task_id"]: p for r, p in zip(problem_set.problems, programs, strict=True)}


def set_limits(patch, seconds, longer):
    limits = {"min_time_limit": seconds, "gt_time_limit_factor": 4.0}
    patch.setattr(evalplus_scoring, "LIMITS", limits)
    limits = {"min_time_limit": longer, "gt_time_limit_factor": 8.0}
    patch.setattr(evalplus_scoring, "LONGER_LIMITS", limits)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    set_limits(monkeypatch, 0.3, 0.8)


VERDICTS = [
    # program, base, base and plus, reason
    (RIGHT, True, True, None),
    (f"Here it is:\n```python\n{RIGHT}```\nDone.", True, True, None),
    (f"{LONG}\n{RIGHT}\nexit(0)\n", True, True, None),
    ("def double(x):\n    return x * 3", False, False, "base tests"),
    ("def double(x):\n    return abs(2 * x)", True, False, "plus tests only"),
    ("def double(x:\n    return", False, False, "no Python"),
    ("((", False, False, "no Python"),
    ("", False, False, "function missing"),
    ("def other(x):\n    return 2 * x", False, False, "function missing"),
    ("def double(x):\n    while True: pass\n    return 1", False, False, "too slow"),
    ("import sys\ndef double(x):\n    sys.exit(0)\n    return 1", False, False, "base tests"),
    ("import os\ndef double(x):\n    os._exit(0)\n    return 1", False, False, "ended its process"),
    ("def double(x):\n    return len(bytearray(6 * 1024**3)) * x", False, False, "base tests"),
    ("def double(x):\n    raise ValueError\n    return 1", False, False, "base tests"),
    ("def double(x):\n    print(2 * x)\n", False, False, "base tests"),
    (
        "import os, posix\ndef double(x):\n    posix.kill(os.getppid(), 9)\n    return 2 * x",
        False,
        False,
        "ended its process",
    ),
    (RIGHT, True, True, None),
    ("x = '\ud800'", False, False, "no Python"),
    ("def double(x):\n    return 0 if x > 0 else 2 * x", False, False, "base tests"),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory, problems):
    folder = tmp_path_factory.mktemp("judged")
    wanted = problems(len(VERDICTS))
    with pytest.MonkeyPatch.context() as patch:
        set_limits(patch, 0.3, 0.8)
        patch.setattr(evalplus_scoring, "num_workers", lambda: 2)
        found = score(wanted, named(wanted, [v[0] for v in VERDICTS]), folder)
    return wanted, found, folder


@pytest.mark.parametrize("number", range(len(VERDICTS)))
def test_verdicts(judged, number):
    wanted, found, _ = judged
    task = wanted.problems[number]["task_id"]
    _, base, plus, reason = VERDICTS[number]
    assert found.passed(plus=False)[task] is base, found.eval_results["eval"][task]
    assert found.passed(plus=True)[task] is plus
    assert found.notes[task]["reason"] == reason


def test_plus_means_base_too(judged):
    _, found, _ = judged
    [entry] = found.eval_results["eval"]["HumanEval/18"]
    assert (entry["base_status"], entry["plus_status"]) == ("fail", "pass")


def test_only_what_may_lack_time_is_judged_again_alone(judged):
    _, found, _ = judged
    again = {t for t, note in found.notes.items() if note["judged_again"]}
    assert {"HumanEval/9", "HumanEval/11", "HumanEval/15"} <= again
    assert not again & {"HumanEval/3", "HumanEval/4", "HumanEval/7", "HumanEval/8"}


def test_what_sanitizing_breaks_on_stays_as_it_was(judged):
    _, found, _ = judged
    assert [t for t, n in found.notes.items() if not n["sanitized"]] == ["HumanEval/17"]


def test_files_are_in_evalplus_format_and_evalplus_agrees(judged, tmp_path):
    wanted, found, folder = judged
    assert (folder / "problems.jsonl").read_bytes() == wanted.content
    results = json.loads((folder / "eval_results.json").read_text())
    assert results == found.eval_results
    again = rescored(folder, tmp_path, "humaneval")
    assert again["hash"] == results["hash"] == wanted.md5
    assert again["eval"].keys() == results["eval"].keys()
    for task, [own] in results["eval"].items():
        [theirs] = again["eval"][task]
        assert own.keys() == theirs.keys()
        if task not in ("HumanEval/11", "HumanEval/15"):  # theirs is broken by what kills it
            assert own == theirs


def rescored(folder, scratch, dataset, seconds=0.8):
    """What `evalplus.evaluate` itself makes of the samples, without the pause at its end."""
    samples = scratch / "samples.jsonl"
    lines = (folder / "samples.jsonl").read_text().splitlines(keepends=True)
    killer = "posix.kill"
    samples.write_text("".join(x.replace(killer, "str") for x in lines))
    variable = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}[dataset]
    code = (
        "import time; pause = time.sleep; time.sleep = lambda s: pause(min(s, 0.1))\n"
        "from evalplus.evaluate import evaluate\n"
        f"evaluate({dataset!r}, {str(samples)!r}, parallel=1, min_time_limit={seconds})"
    )
    outer = {k: v for k, v in os.environ.items() if not k.startswith("EVALPLUS")}
    env = {
        **outer,
        variable: str(folder / "problems.jsonl"),
        "XDG_CACHE_HOME": str(scratch),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((scratch / "samples_eval_results.json").read_text())


def test_mbpp_inputs_that_json_cannot_hold(tmp_path, problems):
    """Mbpp/252 takes complex numbers: they are text in the file, and again among failed tests."""
    wanted = problems(
        1,
        "mbpp",
        task_id="Mbpp/252",
        prompt='"""Double it."""\n',
        canonical_solution=RIGHT,
        base_input=[["1j"]],
        plus_input=[["2j"]],
    )
    found = score(
        wanted, {"Mbpp/252": "def double(x):\n    return x if x == 1j else 2 * x"}, tmp_path
    )
    [entry] = found.eval_results["eval"]["Mbpp/252"]
    assert (entry["base_status"], entry["base_fail_tests"]) == ("fail", [["1j"]])
    assert rescored(tmp_path, tmp_path, "mbpp")["eval"]["Mbpp/252"] == [entry]


def test_humaneval_32_passes_here_and_never_in_evalplus(tmp_path, problems):
    wanted = problems(
        1,
        task_id="HumanEval/32",
        entry_point="find_zero",
        prompt="def find_zero(xs):\n",
        canonical_solution="    return -xs[0] / xs[1]\n",
        base_input=[[[1, 2]]],
        plus_input=[[[3, 6]]],
        atol=1e-4,
    )
    [find_zero] = wanted.problems
    right = find_zero["prompt"] + find_zero["canonical_solution"]
    found = score(wanted, {"HumanEval/32": right}, tmp_path)
    assert found.passed(plus=True)["HumanEval/32"] and not found.notes["HumanEval/32"]["reason"]
    assert not found.passed_in_evalplus(plus=False)["HumanEval/32"]
    assert rescored(tmp_path, tmp_path, "humaneval")["eval"] == found.eval_results["eval"]
    wrong = {"HumanEval/32": right.replace("-xs", "xs")}
    found = score(wanted, wrong, tmp_path)
    assert not found.passed(plus=False)["HumanEval/32"]
    (tmp_path / "samples_eval_results.json").unlink()
    assert rescored(tmp_path, tmp_path, "humaneval")["eval"] == found.eval_results["eval"]


def test_base_only_leaves_the_added_tests_out(tmp_path, problems):
    wanted = problems(1)
    half = {"HumanEval/0": "def double(x):\n    return abs(2 * x)"}
    found = score(wanted, half, tmp_path, base_only=True)
    assert found.passed(plus=False) == {"HumanEval/0": True}
    assert found.eval_results["eval"]["HumanEval/0"][0]["plus_status"] is None
    assert score(wanted, half, tmp_path).eval_results["eval"]["HumanEval/0"][0]["plus_status"]


def test_the_same_is_judged_once_and_anything_else_anew(tmp_path, monkeypatch, problems):
    wanted, right = problems(1), {"HumanEval/0": RIGHT}
    first = score(wanted, right, tmp_path)

    def refuse(*_):
        raise AssertionError("judged anew")

    with monkeypatch.context() as patch:
        patch.setattr(evalplus_scoring, "_judge", refuse)
        assert score(wanted, right, tmp_path) == first
        for other in (problems(1, atol=0.1), problems(1, base_input=[[5]])):
            with pytest.raises(AssertionError, match="anew"):
                score(other, right, tmp_path)
        with pytest.raises(AssertionError, match="anew"):
            score(wanted, {"HumanEval/0": "def double(x): return x"}, tmp_path)
        results = tmp_path / "eval_results.json"
        results.write_text(results.read_text().replace('"pass"', '"fail"'))
        with pytest.raises(AssertionError, match="anew"):
            score(wanted, right, tmp_path)
    assert score(wanted, right, tmp_path).eval_results["eval"] == first.eval_results["eval"]


@pytest.mark.skipif("ALPS_DATA_DIR" not in os.environ, reason="needs ALPS_DATA_DIR")
@pytest.mark.parametrize("dataset", ["humaneval", "mbpp"])
def test_reference_solutions_of_real_problems_pass(dataset, tmp_path, monkeypatch):
    monkeypatch.undo()  # EvalPlus' own limits
    place = Path(os.environ["ALPS_DATA_DIR"])
    if not (place / RELEASES[dataset].file).exists():
        pytest.skip(f"{RELEASES[dataset].name} is not in ALPS_DATA_DIR")
    real = load_release(dataset, place, 5)
    reference = {r["task_id"]: r["prompt"] + r["canonical_solution"] for r in real.problems}
    found = score(real, reference, tmp_path)
    assert all(found.passed(plus=True).values()) and len(found.notes) == 5
    wrong = {task: "def nothing():\n    return 1" for task in reference}
    assert not any(score(real, wrong, tmp_path).passed(plus=False).values())


@pytest.mark.skipif("ALPS_DATA_DIR" not in os.environ, reason="needs ALPS_DATA_DIR")
def test_mixed_samples_of_real_problems_as_evalplus_judges_them(tmp_path, monkeypatch):
    """Right, wrong and broken programs to real problems: our stock verdicts are EvalPlus'.

    None is endless, and limits are so long that a busy machine decides nothing.
    """
    set_limits(monkeypatch, 20, 20)
    real = load_release("humaneval", Path(os.environ["ALPS_DATA_DIR"]), 40)
    programs = {}
    for number, row in enumerate(real.problems):
        right = row["prompt"] + row["canonical_solution"]
        name = row["entry_point"]
        inner = right.replace(f"def {name}(", "def inner(")
        programs[row["task_id"]] = [
            right,
            f"{inner}\ndef {name}(*x):\n    return [inner(*x)]\n",
            f"{inner}\ndef {name}(*x):\n    return inner(*x)\n",
            f"def {name}(*x):\n    return None\n",
            f"{inner}\ndef {name}(*x):\n    y = inner(*x)\n    return y + y\n",
        ][number % 5 if name not in row["canonical_solution"] else 0]  # a call of itself
    found = score(real, programs, tmp_path)
    assert rescored(tmp_path, tmp_path, "humaneval", 20)["eval"] == found.eval_results["eval"]
    assert 8 < sum(found.passed(plus=True).values()) < 30
