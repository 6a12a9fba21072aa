import pytest

from alps.base.serialization import from_dict
from alps.methods.lora import LoRA
from alps.models.training_plan import LoraShape, TrainingPlan


def test_the_plan_is_adapters_on_a_frozen_model():
    assert LoRA(name="lora", rank=4, alpha=8.0, targets=("q_proj",)).plan(None) == TrainingPlan(
        qkv="none", rest=False, lora=LoraShape(rank=4, alpha=8.0, targets=("q_proj",))
    )


def test_the_papers_shape_is_the_default_and_the_configured_one(make_run):
    paper = LoRA(name="lora", rank=128, alpha=128.0, targets=("q_proj", "k_proj", "v_proj"))
    assert LoRA(name="lora") == paper
    assert make_run("method=lora").method == paper


def test_lora_chooses_no_heads_and_needs_no_task_model():
    assert LoRA(name="lora").choose(None) is None
    assert not {"ratio", "scope", "task_model"} & set(vars(LoRA(name="lora")))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rank": 0}, "method.rank must be at least 1, got 0"),
        (
            {"targets": ("q_prj",)},
            "method.targets must be one or more of q_proj, k_proj, v_proj, o_proj, gate_proj, "
            "up_proj, down_proj; got ['q_prj']",
        ),
    ],
)
def test_shapes_that_cannot_be_used_are_told(changes, problem):
    assert list(LoRA(name="lora", **changes).problems()) == [problem]


def test_a_list_of_targets_becomes_a_tuple():
    plain = {"_target_": "alps.methods.lora.LoRA", "name": "lora", "targets": ["q_proj", "v_proj"]}
    assert from_dict(plain).targets == ("q_proj", "v_proj")
