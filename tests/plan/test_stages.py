from alps.plan.stages import group_by_stage, plan_runs, run_state
from alps.runs.folder import RunFolder


def test_a_run_that_several_tables_ask_for_is_planned_once(make_run):
    full, alps = make_run("method=full"), make_run("method=alps")
    found = plan_runs({"a": [full, alps], "b": [full]})
    assert list(found) == [full.key, alps.key]
    assert found[full.key].tables == ["a", "b"]
    assert found[alps.key].needs == full.key


def test_task_models_come_first_and_those_of_no_table_are_added(make_run):
    random = make_run("method=random")
    alps = [make_run("method=alps"), make_run("method=alps", "task_model=fewer_data")]
    stages = group_by_stage(plan_runs({"a": [random, *alps]}).values())
    first, second = [[each.key for each in stage] for stage in stages]
    assert first == [run.task_run().key for run in alps]
    assert second == [random.key, *(run.key for run in alps)]
    assert not any(each.tables for each in stages[0])


def test_a_task_model_that_a_table_asks_for_is_no_run_more(make_run):
    alps, full = make_run("method=alps"), make_run("method=full")
    stages = group_by_stage(plan_runs({"a": [alps, full]}).values())
    assert [[each.key for each in stage] for stage in stages] == [[full.key], [alps.key]]


def test_readily_available_models_are_no_runs(make_run):
    run = make_run("task_model=readily", "task_model.path=org/name")
    assert len(plan_runs({"a": [run]})) == 1


def test_states_are_read_from_files(make_run):
    run = make_run("method=full")
    assert run_state([run]) == ("missing", None)
    folder = RunFolder(run.folder)
    folder.set_status("failed", "the loss became nan")
    assert run_state([run]) == ("failed", "the loss became nan")
    folder.set_status("stopped", "by a signal")
    assert run_state([run]) == ("missing", None)
    folder.set_status("running")
    with folder.lock():
        assert run_state([run]) == ("running", None)
    folder.set_status("finished")
    folder.training_path.write_text("{}")
    assert run_state([run]) == ("missing", None)  # its weights were deleted
    folder.weights_path.parent.mkdir()
    folder.weights_path.touch()
    assert run_state([run]) == ("trained", None)
    folder.result_path.write_text("{}")
    state, why = run_state([run])
    assert state == "failed" and "has schema None" in why
