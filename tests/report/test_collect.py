from dataclasses import replace
from pathlib import Path

import pytest

from alps.methods.whole import Full, NoAttention
from alps.report.collect import collect, row
from alps.results import Result
from alps.run_folder import RunFolder
from alps.settings import Model, Optim, Run


@pytest.fixture
def run(tmp_path) -> Run:
    from alps.data.mini import Mini

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
    return Result(**facts, **hashes, num_trainable=1, trainable_fraction=0.5, evals={}, **changes)


def finish(run: Run, **changes) -> Result:
    folder = RunFolder(run.folder)
    done = result(run.key, **changes)
    done.write(folder.result_path)
    folder.set_status("finished")
    return done


def finish_base(run: Run) -> Result:
    done = result(run.base_key)
    done.write(RunFolder(Path(run.output_dir) / "evals" / run.base_key).result_path)
    return done


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
