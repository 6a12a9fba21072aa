from dataclasses import replace

import pytest

from alps.data.sources.mini import Mini
from alps.methods.dense import Full
from alps.methods.sampled import RandomHeads
from alps.report.runs.listing import describe, matches, print_runs
from alps.runs.folder import RunFolder
from alps.settings.model import Model
from alps.settings.run import Optim, Run


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(
        method=RandomHeads(name="random", ratio=0.1, scope="heads_only"),
        model=Model(name="tiny", random={"hidden_size": 64}),
        data=Mini(name="mini_math", generator="mini_math"),
        optim=Optim(name="mini", lr=1e-4, batch_size=8, epochs=1),
        seed=3,
        output_dir=str(tmp_path),
    )


def save(run: Run, state: str = "finished", reason: str | None = None) -> RunFolder:
    folder = RunFolder(run.folder)
    folder.write_run(run)
    folder.set_status(state, reason)
    return folder


def printed(capsys, tmp_path, *filters: str) -> str:
    print_runs(tmp_path, filters)
    return capsys.readouterr().out


def test_a_run_is_described_by_settings_and_state(run):
    assert describe(save(run, "failed", "the loss is nan")) == {
        "run": run.key,
        "method": "random",
        "ratio": "0.1",
        "scope": "heads_only",
        "model": "tiny",
        "data": "mini_math",
        "optim": "mini",
        "seed": "3",
        "state": "failed",
        "reason": "the loss is nan",
    }


def test_what_a_method_ignores_is_a_dash(run):
    line = describe(save(replace(run, method=Full(name="full"))))
    assert (line["ratio"], line["scope"], line["reason"]) == ("—", "—", "")


def test_a_folder_that_somebody_edited_has_the_same_columns(run):
    good = describe(save(run))
    broken = save(replace(run, seed=4))
    broken.settings_path.write_text("optim: [")
    line = describe(broken)
    assert line["run"] == broken.path.name
    assert line["state"].startswith("unreadable")
    assert list(line) == list(good)


LINE = {"run": "alps-0123456789ab", "method": "alps", "ratio": "0.1", "state": "failed"}


@pytest.mark.parametrize(
    "filters",
    [
        [],
        ["alps"],
        ["0123"],
        ["method=alps"],
        ["ratio=0.1", "state=failed"],
        ["ps", "state=failed"],
    ],
)
def test_a_line_matches_every_filter(filters):
    assert matches(LINE, filters)


@pytest.mark.parametrize(
    "filters",
    [
        ["full"],
        ["method=alp"],
        ["method=full"],
        ["alps", "state=finished"],
        ["ratio=0.10"],
        ["nothing=alps"],
    ],
)
def test_a_line_that_fails_one_filter_is_left_out(filters):
    assert not matches(LINE, filters)


def test_runs_are_printed_with_their_keys(run, tmp_path, capsys):
    other = replace(run, method=Full(name="full"))
    save(run)
    save(other, "failed", "the loss is nan")
    both = printed(capsys, tmp_path)
    assert run.key in both and other.key in both and "the loss is nan" in both
    one = printed(capsys, tmp_path, "method=full")
    assert other.key in one and run.key not in one


def test_nothing_to_print_is_said(run, tmp_path, capsys):
    assert printed(capsys, tmp_path) == f"no runs in {tmp_path / 'runs'}\n"
    save(run)
    assert printed(capsys, tmp_path, "xyz", "seed=9").endswith("match xyz seed=9\n")


def test_an_unreadable_run_does_not_hide_the_others(run, tmp_path, capsys):
    save(run)
    broken = save(replace(run, method=Full(name="full")))  # sorts before the other
    broken.settings_path.write_text("{}")
    text = printed(capsys, tmp_path)
    header = text.splitlines()[0].replace("┃", " ").split()
    assert header == list(describe(RunFolder(run.folder)))
    assert run.key in text and broken.path.name in text and "unreadable" in text


@pytest.mark.parametrize("reason", ["[/tmp/x.cc:5] closed by peer", "[red] and [enforce] :x:"])
def test_brackets_in_a_reason_are_printed_as_they_are(run, tmp_path, capsys, reason):
    save(run, "failed", reason)
    assert reason in printed(capsys, tmp_path)
