from dataclasses import dataclass, replace

import pytest

from alps.methods.dense import Full, NoAttention
from alps.report.runs.collect import collect, row
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark
from alps.settings.model import Model
from alps.settings.run import Optim, Run


@dataclass(frozen=True, kw_only=True)
class Asked(Benchmark):
    """A benchmark by name."""

    def evaluate(self, subject):
        raise AssertionError


@pytest.fixture
def run(tmp_path) -> Run:
    from alps.data.sources.mini import Mini

    return Run(
        method=Full(name="full"),
        model=Model(name="tiny", random={"hidden_size": 64}),
        data=Mini(name="mini_math", generator="mini_math"),
        optim=Optim(lr=1e-4, batch_size=8, epochs=1),
        output_dir=str(tmp_path),
    )


def result(key: str, **changes) -> Result:
    facts = {"key": key, "model": "tiny", "data": "mini_math", "method": key.rsplit("-", 1)[0]}
    hashes = {"data_hash": "d", "base_hash": "b"}
    changes = {"evals": {}, **changes}
    return Result(**facts, **hashes, num_trainable=1, trainable_fraction=0.5, **changes)


def finish(run: Run, **changes) -> Result:
    folder = RunFolder(run.folder)
    done = result(run.key, **changes)
    done.write(folder.result_path)
    folder.set_status("finished")
    return done


def finish_base(run: Run) -> None:
    """What serves all data, and what reads this run's."""
    folders = {run.base_folder: "mini_math", run.base_data_folder: "held_out"}
    for folder, name in folders.items():
        evals = {name: {"number": float(int(folder.name[5:], 16))}}
        result(folder.name, evals=evals).write(RunFolder(folder).result_path)


def test_a_finished_run_is_its_result(run):
    done = finish(run)
    (found,) = collect([run])
    assert (found.key, found.result, found.failure) == (run.key, done, None)


def test_base_rows_stand_first_and_each_run_stands_once_in_order(run):
    other = replace(run, method=NoAttention(name="no_attn"))
    elsewhere = replace(run, model=Model(name="tiny", random={"hidden_size": 128}))
    for each in (run, other, elsewhere):
        finish(each)
    for each in (run, elsewhere):
        finish_base(each)
    found = [r.key for r in collect([other, run, other, elsewhere])]
    bases = [run.base_key, elsewhere.base_key]
    assert found == [*bases, other.key, run.key, elsewhere.key]


def test_a_base_row_has_what_serves_all_data_and_what_reads_its_own(run):
    """Nothing that the runs do not ask, unless their own data was evaluated."""
    asked = Evals(benchmarks=(Asked(name="mini_math", protocol="plain"),))
    other = replace(run, data=replace(run.data, name="other", generator="mini_code"))
    for each in (run, other):
        finish(each)
    finish_base(run)
    first, second = collect([replace(r, evals=asked) for r in (run, other)])[:2]
    assert first.result is not None and second.result is not None
    assert (first.result.data, second.result.data) == (run.data.name, "other")
    assert first.result.evals["mini_math"] == second.result.evals["mini_math"]
    assert set(first.result.evals) == {"mini_math", "held_out"}
    assert set(second.result.evals) == {"mini_math"}
    assert [r.key for r in collect([run, other])] == [run.base_key, run.key, other.key]


def test_a_base_result_that_cannot_be_read_is_a_row_with_its_reason(run):
    finish_base(run)
    RunFolder(run.base_folder).result_path.write_text("{")
    failed, _ = collect([run])
    assert failed.result is None and failed.failure and "result.json" in failed.failure


def test_a_base_model_that_was_not_evaluated_has_no_row(run):
    finish(run)
    assert [r.key for r in collect([run])] == [run.key]


def test_a_run_that_never_ran_is_a_row_with_a_reason(run):
    (found,) = collect([run])
    assert (found.key, found.result, found.failure) == (run.key, None, "it did not run")


def test_a_failed_run_is_a_row_with_its_reason(run):
    RunFolder(run.folder).set_status("failed", "the loss is nan")
    (found,) = collect([run])
    assert (found.result, found.failure) == (None, "the loss is nan")


def test_a_run_that_failed_again_does_not_show_its_old_result(run):
    finish(run)
    RunFolder(run.folder).set_status("failed", "the disk is full")
    assert collect([run])[0].failure == "the disk is full"


def test_a_run_that_ended_without_a_word_says_so(run):
    RunFolder(run.folder).set_status("running")
    assert collect([run])[0].failure == "ended without finishing"


def test_a_run_at_work_elsewhere_says_so(run):
    folder = RunFolder(run.folder)
    with folder.lock():
        folder.set_status("running")
        failure = collect([run])[0].failure
    assert failure and "running" in failure


@pytest.mark.parametrize("text", ['{"key": ', '{"schema_version": 99}', '{"schema_version": 1}'])
def test_a_result_that_cannot_be_read_does_not_hide_the_others(run, text):
    other = replace(run, method=NoAttention(name="no_attn"))
    finish(run)
    finish(other)
    RunFolder(run.folder).result_path.write_text(text)
    bad, good = collect([run, other])
    assert bad.result is None and bad.failure and "result.json" in bad.failure
    assert good.result is not None


def test_a_row_is_read_from_any_folder(tmp_path):
    done = result("full-0123456789ab", final_train_loss=0.25)
    folder = RunFolder(tmp_path / "copied")
    done.write(folder.result_path)
    assert row("full-0123456789ab", folder).result == done
