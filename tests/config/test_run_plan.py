from alps.config.run_plan import current_plan, new_plan


def test_a_plan_lives_as_long_as_its_command(make_run):
    with new_plan() as plan:
        current_plan().add([make_run()], "drop")
        assert current_plan() is plan and [r.data.name for r in plan.runs] == ["mini_math"]
    assert not current_plan().runs and not current_plan().started


def test_plans_of_nested_commands_are_apart():
    with new_plan() as outer:
        with new_plan() as inner:
            current_plan().started = True
        assert current_plan() is outer and inner.started and not outer.started
