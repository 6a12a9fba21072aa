from alps.plan.cost import Cost
from alps.plan.disk import peak_disk_bytes
from alps.plan.stages import PlannedRun, group_by_stage


def cost(weights: int, qkv: int) -> Cost:
    rest = {
        "flops": 0.0,
        "memory": 0,
        "devices": 1,
        "shards": 1,
        "micro_batch": 1,
        "one_row": 0,
        "fitting": None,
    }
    return Cost(weights=weights, qkv=qkv, resume=3 * weights, tokens=1.0, num_rows=1, **rest)


def plan(*runs: tuple[str, str | None, int]) -> list[list[PlannedRun]]:
    made = [PlannedRun(run=None, key=key, needs=needs, stage=n) for key, needs, n in runs]
    return group_by_stage(made)


def test_what_is_left_after_each_run_by_hand():
    stages = plan(("full", None, 1), ("alps", "full", 0), ("kl", "full", 0), ("lora", None, 0))
    costs = {"full": cost(100, 20), "alps": cost(90, 10), "kl": cost(90, 10), "lora": cost(8, 8)}
    # While `full` trains: its checkpoint and its weights. Then `full` waits for two others.
    # keep: 100 + 90 + 360 while kl trains, and nothing larger after.
    assert peak_disk_bytes(stages, costs)["keep"] == 100 + 90 + 4 * 90
    # qkv: of alps 10 are left; `full` goes down to 20 only when kl has its heads.
    assert peak_disk_bytes(stages, costs)["qkv"] == 100 + 10 + 4 * 90
    assert peak_disk_bytes(stages, costs)["drop"] == 100 + 4 * 90


def test_at_the_end_nothing_that_is_not_needed_is_left():
    stages = plan(("full", None, 1), ("alps", "full", 0), ("big", None, 0))
    costs = {"full": cost(100, 20), "alps": cost(90, 10), "big": cost(1000, 500)}
    found = peak_disk_bytes(stages, costs)
    assert found == {"keep": 190 + 4000, "qkv": 30 + 4000, "drop": 4000}


def test_runs_of_unknown_cost_are_left_out():
    stages = plan(("full", None, 1), ("alps", "full", 0))
    assert peak_disk_bytes(stages, {"full": None, "alps": None}) == {"keep": 0, "qkv": 0, "drop": 0}
