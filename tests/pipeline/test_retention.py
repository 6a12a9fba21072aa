from pathlib import Path

import pytest
from safetensors.torch import load_file

from alps.execute import execute
from alps.pipeline.retention import (
    already_trained_task_models,
    reduce,
    reduce_unneeded,
    with_task_models,
)
from alps.plan.stages import plan_runs
from alps.runs.completion import is_finished
from alps.runs.folder import RunFolder
from alps.runs.result import Result, RunFailed
from alps.training.fit import fit
from alps.training.restore import restore, scorable_checkpoint

MINI = ("evals=mini", "evals.limit=2")
PLAIN = (*MINI, "evals.protocol=plain")


def weights_of(run) -> list[str]:
    return sorted(p.name for p in RunFolder(run.folder).weights_path.parent.glob("*"))


def counting(trained: list[str]):
    def count(run):
        trained.append(run.key)
        fit(run)

    return count


def test_q_k_and_v_that_are_left_score_as_the_whole_model_did(make_trained):
    run = make_trained("method=full")
    before = load_file(scorable_checkpoint(run))
    reduce(run, "qkv")
    assert weights_of(run) == ["qkv.safetensors"]
    after = load_file(scorable_checkpoint(run))
    assert len(after) == 3 * run.model.random["num_hidden_layers"]
    assert all(after[name].equal(before[name]) for name in after)


def test_chosen_heads_are_merged_before_only_q_k_and_v_are_left(make_trained):
    from alps.models.apply import merge

    run = make_trained("method=random", "ratio=0.3")
    whole = merge(restore(run)).state_dict()
    reduce(run, "qkv")
    left = load_file(scorable_checkpoint(run))
    assert left and all(tensor.equal(whole[name]) for name, tensor in left.items())


@pytest.mark.parametrize("setting", [("method=random", "scope=heads_only"), ("method=lora",)])
def test_weights_smaller_than_q_k_and_v_are_left_as_they_are(make_trained, setting):
    run = make_trained(*setting, "ratio=0.1", *(["method.rank=1"] if "lora" in setting[0] else []))
    before = weights_of(run)
    reduce(run, "qkv")
    assert weights_of(run) == before
    reduce(run, "drop")
    assert weights_of(run) == []


def test_all_but_weights_stays_and_the_run_counts_as_finished(make_trained):
    run = make_trained("method=full", *MINI)
    result = Result.read(RunFolder(run.folder).result_path)
    files = {p for p in run.folder.rglob("*") if p.parent.name != "weights" and p.is_file()}
    reduce(run, "drop")
    assert weights_of(run) == [] and all(p.exists() for p in files)
    trained = []
    assert is_finished(run, RunFolder(run.folder))
    assert execute(run, counting(trained)) == result and not trained
    (one,) = plan_runs({"table": [run]}).values()
    assert one.state == "done"


def test_only_what_no_unfinished_run_needs_is_reduced(make_run, make_trained):
    full, kl = (make_run(f"method={name}", "ratio=0.2") for name in ("full", "kl"))
    alps = make_trained("method=alps", "ratio=0.2")
    assert [r.key for r in with_task_models(alps)] == [alps.key, full.key]
    reduce_unneeded([full, alps, kl], "keep")
    assert weights_of(alps) and weights_of(full)
    reduce_unneeded([full, alps, kl], "drop")
    assert weights_of(alps) == [] and "trained.safetensors" in weights_of(full)  # kl is to come
    execute(kl, fit)
    reduce_unneeded([alps, kl], "drop")  # the task model, too, which is no row here
    assert weights_of(kl) == weights_of(full) == []


def test_a_run_that_waits_for_a_benchmark_keeps_its_weights(make_run, make_trained):
    run = make_trained("method=full")
    reduce_unneeded([run, make_run("method=full", *MINI)], "drop")
    assert "trained.safetensors" in weights_of(run)


def test_a_run_that_another_process_holds_is_left_alone(make_trained):
    run = make_trained("method=full")
    with RunFolder(run.folder).lock():
        reduce_unneeded([run], "drop")
        assert "trained.safetensors" in weights_of(run)


def test_weights_that_are_wanted_again_are_trained_again(make_run, make_trained):
    full, alps = make_trained("method=full"), make_run("method=alps", "ratio=0.2")
    first = load_file(RunFolder(full.folder).weights_path)
    reduce(full, "drop")
    states = {p.run.method.name: p.state for p in plan_runs({"table": [full, alps]}).values()}
    assert states == {"full": "missing", "alps": "missing"}
    trained = []
    execute(alps, counting(trained))
    assert trained == [full.key, alps.key]
    again = load_file(RunFolder(full.folder).weights_path)
    assert all(again[name].equal(first[name]) for name in first)


def test_benchmarks_of_another_command_stay_valid(make_run):
    """Else two tables with other benchmarks would have each other trained again for ever."""
    run, first, second = (make_run("method=full", *s) for s in ((), MINI, PLAIN))
    trained = []
    for asked in (first, second, first, second):
        execute(asked, counting(trained))
        reduce(run, "drop")
    assert trained == [run.key] * 2  # once, and once more for the second set
    assert {p.state for p in plan_runs({"a": [first], "b": [second]}).values()} == {"done"}


def test_heads_are_not_chosen_again_when_weights_are(make_run, make_trained):
    full, alps = make_run("method=full"), make_trained("method=alps", "ratio=0.2")
    heads = RunFolder(alps.folder).read_heads()
    reduce(full, "drop")
    reduce(alps, "drop")
    wanted = make_run("method=alps", "ratio=0.2", *MINI)
    states = {p.run.method.name: p.state for p in plan_runs({"table": [wanted]}).values()}
    assert states == {"full": "done", "alps": "missing"}
    trained = []
    execute(wanted, counting(trained))
    assert trained == [alps.key] and RunFolder(alps.folder).read_heads() == heads


def test_task_models_that_were_there_before_are_spared(make_run, make_trained):
    full, alps = make_run("method=full"), make_run("method=alps", "ratio=0.2")
    assert already_trained_task_models([alps]) == set()
    make_trained("method=full")
    assert (
        already_trained_task_models([alps]) == {full.key}
        and already_trained_task_models([full, alps]) == set()
    )
    protected = already_trained_task_models([alps])
    execute(alps, fit)
    reduce_unneeded([alps], "drop", protected)
    assert weights_of(alps) == [] and "trained.safetensors" in weights_of(full)


def test_a_run_that_cannot_be_reduced_ends_nothing(make_trained, caplog):
    full, other = make_trained("method=random"), make_trained("method=full")
    RunFolder(full.folder).weights_path.write_bytes(b"damaged" * 10**5)
    reduce_unneeded([full, other], "qkv")
    assert f"{full.key}: its weights stay as they are" in caplog.text
    assert weights_of(full) == ["trained.safetensors"] and weights_of(other) == ["qkv.safetensors"]


@pytest.mark.parametrize("text", ["", '{"training"', "[]"])
def test_a_damaged_training_file_is_one_sentence(make_trained, text):
    run = make_trained("method=full")
    RunFolder(run.folder).training_path.write_text(text)
    with pytest.raises(RunFailed, match=r"training\.json is damaged .* delete it to train again"):
        execute(run, fit)
    (one,) = plan_runs({"table": [run]}).values()
    assert one.state == "failed" and "training.json is damaged" in one.reason


def test_a_benchmark_that_failed_does_not_unmake_a_finished_run(make_trained):
    run = make_trained("method=full", *MINI)
    result = Result.read(RunFolder(run.folder).result_path)
    RunFolder(run.folder).set_status("failed", "another benchmark did not load")
    (one,) = plan_runs({"table": [run]}).values()
    assert one.state == "done"
    assert execute(run, fit) == result
    assert RunFolder(run.folder).status()["state"] == "finished"


def test_q_k_and_v_are_enough_for_scores_and_not_for_a_benchmark(make_run, make_trained):
    full, alps = make_trained("method=full"), make_run("method=alps", "ratio=0.2")
    reduce(full, "qkv")
    states = {p.run.method.name: p.state for p in plan_runs({"table": [full, alps]}).values()}
    assert states == {"full": "done", "alps": "missing"}
    trained = []
    execute(alps, counting(trained))
    assert trained == [alps.key]
    (one,) = plan_runs({"table": [make_run("method=full", *MINI)]}).values()
    assert one.state == "missing"
    execute(make_run("method=full", *MINI), counting(trained))
    assert trained == [alps.key, full.key]


@pytest.mark.parametrize(
    ("policy", "left"), [("drop", "deleted ("), ("qkv", "but for q, k and v (")]
)
def test_whoever_wants_deleted_weights_is_told_the_remedy(make_trained, alps, cli, policy, left):
    run = make_trained("method=full")
    reduce(run, policy)
    with pytest.raises(RunFailed, match="weights=" + policy) as error:
        restore(run)
    remedy = f"delete {run.folder}/training.json and repeat its command to train it again"
    assert left in str(error.value) and remedy in str(error.value)
    for arguments in (["export", "to=there"], ["evaluate", *MINI]):
        done = alps(*arguments, f"run={run.key}", f"output_dir={run.output_dir}", check=2)
        assert remedy in done.stderr and len(done.stderr.splitlines()) == 1
    code = {"drop": 2, "qkv": 0}[policy]
    done = cli("localize", "base=tiny", f"task={run.key}", f"output_dir={run.output_dir}")
    assert done.returncode == code and (policy == "qkv" or remedy in done.stderr)
    assert not Path("there").exists()


def test_a_sweep_leaves_what_was_asked_and_its_report_needs_no_weights(cli):
    sweep = ("-m", "method=full,alps", "ratio=0.2", "model=tiny", "data.max_examples=24", *MINI)
    done = cli("train", *sweep, "weights=drop", check=0)
    folders = [p.parent for p in Path("outputs/runs").glob("*/result.json")]
    assert len(folders) == 2 and not any(list(f.glob("weights/*")) for f in folders)
    again = cli("train", *sweep, check=0)
    assert "step" not in again.stdout + again.stderr
    assert [line for line in done.stdout.splitlines() if "full" in line][-1] in again.stdout


def test_another_policy_is_refused(cli):
    done = cli("train", "model=tiny", "weights=droop", check=2)
    assert "weights=droop is not possible, did you mean 'drop'?" in done.stderr
