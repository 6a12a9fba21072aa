import pytest

from alps.composing import paths_told
from alps.config import build, compose_config, runs_of
from alps.models.checkpoint import materialize


@pytest.mark.parametrize(
    "override",
    ["model=tiny", "model=tiny,smollm2_135m", "data=a/b", "model.path=a/b", "model=nothing"],
)
def test_other_settings_stay_as_they_are(override):
    assert paths_told([override]) == [override]


def test_a_hub_id_or_folder_is_a_path(tmp_path):
    (tmp_path / "here").mkdir()
    for place in ("meta-llama/Llama-3.2-1B", str(tmp_path / "here"), "here", "./elsewhere"):
        assert paths_told([f"model={place}", "seed=1"]) == [f"model.path={place}", "seed=1"]


def test_a_model_in_a_folder_is_named_by_it(make_run):
    folder = materialize(make_run().model)
    run = build(compose_config([f"model={folder}", "evals=none"]))
    assert run.model.name == folder.name and run.model.path == str(folder)
    (same,) = runs_of([f"model={folder}", "evals=none"])
    assert same.key == run.key
