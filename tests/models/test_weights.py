import pytest
import torch

from alps.models.apply import apply
from alps.models.checkpoint import materialize
from alps.models.export import export_model
from alps.models.load import load_model, load_tokenizer
from alps.models.training_plan import TrainingPlan
from alps.models.weights import load_trained, save_trained
from alps.runs.result import RunFailed
from alps.training.sharding import trained_parameters


@pytest.fixture
def base(make_run):
    return materialize(make_run().model)


def test_only_trained_parameters_are_saved_and_come_back(base, tmp_path):
    model = apply(load_model(base), TrainingPlan(qkv="none", rest=True))
    with torch.no_grad():
        model.model.norm.weight += 1
    save_trained(trained_parameters(model), tmp_path / "w.safetensors")
    other = apply(load_model(base), TrainingPlan(qkv="none", rest=True))
    load_trained(other, tmp_path / "w.safetensors")
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_weights_of_another_plan_are_refused(base, tmp_path):
    model = apply(load_model(base), TrainingPlan(qkv="all", rest=True))
    save_trained(trained_parameters(model), tmp_path / "w.safetensors")
    with pytest.raises(RunFailed, match="other parameters"):
        load_trained(
            apply(load_model(base), TrainingPlan(qkv="none", rest=True)), tmp_path / "w.safetensors"
        )


def test_damaged_weights_are_one_sentence(base, tmp_path):
    model = load_model(base)
    save_trained(trained_parameters(model), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFailed, match="is damaged"):
        load_trained(model, tmp_path / "w.safetensors")


def test_an_existing_folder_is_never_overwritten(base, tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        export_model(load_model(base), load_tokenizer(base), tmp_path)
