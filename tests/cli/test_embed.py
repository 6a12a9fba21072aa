import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from alps.base.serialization import SettingsError
from alps.cli import embed as cli_embed
from alps.cli.embed import parse_request
from alps.config.build import compose_config
from alps.config.compose import config_to_dict
from alps.embedding import cache as remember
from alps.embedding.measures import measure

SMALL = ("model=tiny", "num_rows=12")


def write_rows(path: str, count: int = 20, **fields: str) -> Path:
    names = {"instruction": "instruction", "output": "output", **fields}
    rows = [
        {names["instruction"]: f"Say the number {i}.", names["output"]: str(i)}
        for i in range(count)
    ]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(path)


def report(*settings: str) -> Path:
    """Runs `alps embed`; the one folder it made."""
    cli_embed.embed([*SMALL, *settings])
    (folder,) = Path("outputs/reports").iterdir()
    return folder


def test_a_report_has_points_measures_a_picture_and_a_page(capsys):
    folder = report("data=mini_general,mini_math")
    out, err = capsys.readouterr()
    assert out.startswith("Datasets as tiny embeds them\n12 rows of each")
    assert out.endswith(f"files: {folder}\n") and err == ""
    assert {p.name for p in folder.iterdir()} == {
        "points.csv", "measures.json", "figure7.png", "figure7.html",
    }  # fmt: skip
    assert (folder / "figure7.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads((folder / "measures.json").read_text())
    files = [Path("outputs/embeddings", d["embeddings"]) for d in found["datasets"]]
    parts = {f.name.split("-")[0]: load_file(f)["embeddings"] for f in files}
    points, expected = measure(parts, "pca", 10, 0)
    assert {name: found[name] for name in expected} == json.loads(json.dumps(expected))
    assert found["settings"]["num_rows"] == 12 and "scikit-learn" in found["versions"]
    with (folder / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["dataset"] for r in rows] == ["mini_general"] * 12 + ["mini_math"] * 12
    places = [[float(r[axis]) for axis in "xyz"] for r in rows]
    np.testing.assert_allclose(places, points, rtol=1e-5, atol=1e-6)


def test_another_projection_embeds_nothing_again(monkeypatch):
    report("data=mini_general,mini_math")
    monkeypatch.setattr(remember, "load_model", None)
    cli_embed.embed([*SMALL, "data=mini_math,mini_general", "projection=tsne", "to=other"])
    found = json.loads(Path("other/measures.json").read_text())
    assert found["projection"]["name"] == "tsne"
    assert [d["name"] for d in found["datasets"]] == ["mini_math", "mini_general"]


def test_local_files_are_datasets_with_settings_of_their_own(capsys):
    own = write_rows("own.jsonl")
    write_rows("other rows.jsonl", 4, instruction="question")
    settings = [f"data=mini_math,own.jsonl,{Path().resolve()}/other rows.jsonl,jsonl"]
    settings += ["other rows.instruction_field=question", f"jsonl.path={own}"]
    report(*settings, "own.test_fraction=0")
    out, err = capsys.readouterr()
    assert all(f"\n{name}" in out for name in ("mini_math", "own", "other rows", "jsonl"))
    assert err == "note: other rows has 4 rows; 12 were asked for\n"
    assert "4 of 12" in out


def test_one_dataset_is_allowed(capsys):
    found = json.loads((report("data=mini_code") / "measures.json").read_text())
    assert found["silhouette"] is None
    assert "silhouette: —" in capsys.readouterr().out


def test_a_file_is_called_by_its_name_up_to_the_dot():
    write_rows("rows.v2.json")
    (source,) = parse_request(["data=./rows.v2.json", "rows.input_field=null"]).sources
    assert (source.name, source.path) == ("rows", "./rows.v2.json")


@pytest.mark.parametrize("given", ["mini_math,mini_code", "[mini_math, mini_code]"])
def test_a_list_may_have_brackets(given):
    assert [s.name for s in parse_request([f"data={given}"]).sources] == ["mini_math", "mini_code"]


def test_without_arguments_the_mini_sets_and_the_model_of_the_yaml_are_meant():
    request = parse_request([])
    plain = compose_config([], "embed")
    assert [s.name for s in request.sources] == list(plain.data)
    assert request.model.name == plain.model.name == "smollm2_135m_q4"
    assert {s.max_examples for s in request.sources} == {500}
    assert {s.max_length for s in request.sources} == {512}


def test_the_model_of_the_yaml_is_meant_not_the_one_of_training(monkeypatch):
    def with_tiny(composed):
        plain = config_to_dict(composed)
        if "num_neighbors" in plain:
            plain["model"]["name"] = "tiny"
        return plain

    monkeypatch.setattr("alps.config.compose.config_to_dict", with_tiny)
    assert parse_request([]).model.name == "tiny"
    assert parse_request(["model=smollm2_135m"]).model.name == "smollm2_135m"


def test_settings_are_read_as_what_they_are():
    s = parse_request(["to=a: b #1", "seed=3", "max_length=64", "text=instruction"]).settings
    assert (s.to, s.seed, s.max_length, s.text) == ("a: b #1", 3, 64, "instruction")
    assert parse_request(["to=null"]).settings.to is None


def test_all_problems_are_told_together(refused):
    sentence = refused(
        cli_embed.embed,
        "data=mini_math,mini_maths,jsonl", "num_rows=1", "projektion=tsne", "text=rows",
        "model=tinny", "mini_math.max_examples=3", "jsonl.fieldd=x", "--verbose",
    )  # fmt: skip
    for part in (
        "'--verbose' is not understood: write setting=value",
        "there is no setting projektion, did you mean 'projection'?",
        "there is no data=mini_maths, did you mean 'mini_math'?",
        "there is no model=tinny, did you mean 'tiny'?",
        "text=rows is not possible, did you mean 'row'?",
        "mini_math.max_examples is one for all datasets of a picture: set num_rows",
        "jsonl.fieldd is not a setting",
        "data=jsonl needs a file: set jsonl.path=<file.jsonl>",
    ):
        assert part in sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["num_rows=1"], "num_rows must be at least 2, got 1"),
        (["num_rows=many"], "num_rows must be a whole number, got 'many'"),
        (["num_neighbors=0"], "num_neighbors must be at least 1, got 0"),
        (["projection=umap"], "projection=umap is not possible (one of: pca, tsne)"),
        (["data="], "data= lacks a name of a dataset"),
        (["data=mini_math,,mini_code"], "data=mini_math,,mini_code lacks a name of a dataset"),
        (["data=mini_math,mini_math"], "data names mini_math twice"),
        (["data=nowhere.jsonl"], "nowhere.path=nowhere.jsonl does not exist"),
        (["data=data.d/rows.jsonl"], "rows.path=data.d/rows.jsonl does not exist"),
        (["data.path=x"], "data.path is no setting of a list: name the dataset, as in "
                          "mini_general.path"),
        (["to=rows.jsonl"], "to=rows.jsonl cannot be written to: name another folder"),
        (["output_dir=rows.jsonl/x"], "output_dir=rows.jsonl/x cannot be written to: name another "
                                      "folder"),
        (["data=empty.jsonl"], "data=empty has no training rows"),
        (["data=rows.jsonl", "rows.output_field=x"], "rows.output_field is not a setting"),
        (["data=rows.jsonl", "rows.answer_field=x"], "row 1 of rows.jsonl has no field 'x' (it "
                                                     "has: instruction, output): set "
                                                     "rows.answer_field"),
        (["data=few.jsonl", "few.test_fraction=0"], "three dimensions need 4 rows at least; there "
                                                    "are 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_nothing(settings, sentence, refused):
    write_rows("rows.jsonl")
    write_rows("few.jsonl", 3)
    Path("empty.jsonl").write_text("")
    assert refused(cli_embed.embed, "model=tiny", *settings).startswith(sentence)


def test_a_model_that_is_not_there_is_refused(refused, tmp_path):
    (tmp_path / "model").mkdir()
    sentence = refused(cli_embed.embed, "model.path=model", "num_rows=4")
    assert "model is not a model folder: it has no readable config.json" in sentence


def test_sentences_are_refused_as_settings_errors_for_python():
    with pytest.raises(SettingsError) as error:
        parse_request(["num_rows=0", "seed=-1"])
    assert error.value.problems == [
        "num_rows must be at least 2, got 0",
        "seed must lie in [0, 4294967295], got -1",
    ]


def test_figure_7_is_an_experiment_at_both_scales():
    paper = parse_request(["experiment=figure7"])
    assert [s.name for s in paper.sources] == ["ultrachat", "mathinstruct", "magicoder"]
    assert (paper.model.name, paper.settings.dtype) == ("llama3_1_8b", "bfloat16")
    mini = parse_request(["experiment=figure7", "scale=mini"])
    assert mini == parse_request([])
    assert parse_request(["experiment=figure7", "scale=mini", "model=tiny"]) == parse_request(
        ["model=tiny"]
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("experiment=table1", "experiment=table1 embeds nothing: figure7 does"),
        ("experiment=figure77", "experiment=figure77"),
    ],
)
def test_another_experiment_is_one_sentence(setting, said):
    with pytest.raises(SettingsError) as error:
        parse_request([setting])
    (problem,) = error.value.problems
    assert said in problem


@pytest.mark.parametrize("command", ["train", "plan", "report"])
def test_what_trains_says_that_figure_7_does_not(cli, command):
    done = cli(command, "experiment=figure7", check=2)
    assert "alps embed experiment=" in done.stderr and len(done.stderr.splitlines()) == 1
