import pytest

from alps.base.serialization import SettingsError, from_dict, to_dict
from alps.heads.geometry import Geometry
from alps.heads.head_set import HeadSet
from alps.methods.dense import Full, NoAttention
from alps.methods.sampled import LayerConsistent, RandomHeads
from alps.methods.scored import Scored
from alps.models.training_plan import TrainingPlan
from alps.settings.run import TaskModel

HEADS = HeadSet(
    heads=((0, 1),), geometry=Geometry(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=2)
)


def random_heads(**changes) -> RandomHeads:
    return RandomHeads(**{"name": "random", "ratio": 0.1, "scope": "rest_trains", **changes})


def scored(**changes) -> Scored:
    task_model = TaskModel(method=Full(name="full"))
    settings = {"name": "alps", "ratio": 0.1, "scope": "rest_trains", "metric": "pad"}
    return Scored(**{**settings, "task_model": task_model, **changes})


@pytest.mark.parametrize("method", [random_heads(ratio=0.0), scored(ratio=0.0)])
def test_ratio_0_is_refused_and_names_the_run_that_is_meant(method):
    assert list(method.problems()) == [
        f"ratio=0 leaves method={method.name} no head to train: "
        "use method=no_attn, which is the 0 % row of Table 3"
    ]


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_a_ratio_outside_its_range_is_refused(ratio):
    (problem,) = random_heads(ratio=ratio).problems()
    assert "ratio must lie in" in problem


@pytest.mark.parametrize("ratio", [1e-6, 0.1, 1.0])
def test_a_ratio_in_its_range_is_taken(ratio):
    assert list(random_heads(ratio=ratio).problems()) == []


@pytest.mark.parametrize("policy", ["any", "all", "majority"])
@pytest.mark.parametrize("make", [random_heads, scored])
def test_ratio_1_under_rest_trains_is_full(make, policy):
    assert make(ratio=1.0, kv_policy=policy).normalized() == Full(name="full")


@pytest.mark.parametrize(
    "changes", [{"scope": "heads_only"}, {"kv_policy": "none"}, {"ratio": 0.999}]
)
def test_what_is_less_than_everything_stays_itself(changes):
    method = random_heads(**{"ratio": 1.0, **changes})
    assert method.normalized() is method


def test_a_ratio_of_1_makes_the_full_run(make_run):
    settings = ["method=random", "ratio=1"]
    assert make_run(*settings).key == make_run("method=full").key
    assert make_run(*settings, "scope=heads_only").key.startswith("random-")


@pytest.mark.parametrize("policy", ["any", "all", "majority", "none"])
@pytest.mark.parametrize(("scope", "rest"), [("rest_trains", True), ("heads_only", False)])
def test_the_plan_is_the_rows_of_the_heads_and_the_rest_by_scope(scope, rest, policy):
    plan = random_heads(scope=scope, kv_policy=policy).plan(HEADS)
    assert plan == TrainingPlan(qkv="heads", rest=rest, heads=HEADS, kv_policy=policy)


def test_the_two_ends_plan_everything_and_everything_but_qkv():
    assert Full(name="full").plan(None) == TrainingPlan(qkv="all", rest=True)
    assert NoAttention(name="no_attn").plan(None) == TrainingPlan(qkv="none", rest=True)
    assert Full(name="full").choose(None) is None


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ({"scope": "all"}, "scope=all is not possible"),
        ({"kv_policy": "some"}, "kv_policy=some is not possible"),
    ],
)
def test_unknown_scopes_and_policies_are_refused(field, problem):
    plain = {**to_dict(LayerConsistent(name="lc", ratio=0.1, scope="heads_only")), **field}
    with pytest.raises(SettingsError, match=problem):
        from_dict(plain)
