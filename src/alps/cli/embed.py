"""`alps embed`: datasets in a model's representation space (Figure 7)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.serialization import SettingsError, did_you_mean, from_dict
from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import error_sentence, exit_on_bad_input, progress_bar
from alps.embedding.request import Request, Settings

if TYPE_CHECKING:
    from alps.data.example import Example
    from alps.settings.run import Run

FOR_ALL = {
    "max_examples": "num_rows",
    "fraction": "num_rows",
    "subset_seed": "seed",
    "template": "template",
    "max_length": "max_length",
}
"""Settings of datasets that all datasets of a picture share -> the setting that sets them."""

MIN_EXAMPLES = 4
"""Three points span only a plane."""


def embed(arguments: Sequence[str]) -> None:
    """Maps datasets in a model's embedding space (Figure 7).

    Embeds examples of each dataset, projects them to three dimensions and measures how far the
    datasets are separated. A setting of one dataset is written NAME.setting=value.
    """
    with exit_on_bad_input():
        request = parse_request(arguments)
        examples = _examples(request)
        folder = _report(request, examples)
    for source in request.sources:
        count, wanted = len(examples[source.name]), request.settings.num_rows
        if count < wanted:
            print(f"note: {source.name} has {count} rows; {wanted} were asked for", file=sys.stderr)

    from alps.report.figure.embedding import print_measures, read_measures

    print_measures(read_measures(folder))
    print(f"files: {folder}")


def parse_request(arguments: Sequence[str]) -> Request:
    """The request that the arguments describe.

    Args:
        arguments: `setting=value`; `<dataset>.<field>=value` is a setting of one dataset, and
            `experiment=figure7` those of the paper's figure, which the others change.

    Raises:
        SettingsError: All problems together.
    """
    from alps.config.build import compose_config
    from alps.config.compose import config_to_dict

    defaults = config_to_dict(compose_config([], "embed"))
    values, others = split_settings(arguments)
    problems = [f"'{a}' is not understood: write setting=value" for a in others]
    if "experiment" in values:
        chosen = {name: values.pop(name) for name in ("experiment", "scale") if name in values}
        values = {**_collected(problems, lambda: _experiment_settings(chosen), {}), **values}
    names, model = defaults.pop("data"), defaults.pop("model")["name"]
    datasets = _datasets(values.pop("data") if "data" in values else names, problems)
    of_model = {} if "model" in values else {"model": model}
    of_data: dict[str, dict[str, str]] = {name: {} for name in datasets}
    own = dict(defaults)
    for name, value in values.items():
        dataset, dot, setting = name.rpartition(".")
        if name.split(".")[0] == "model":
            of_model[name] = value
        elif dot and dataset in of_data and setting not in FOR_ALL:
            of_data[dataset][f"data.{setting}"] = value
        elif name in own:
            own[name] = _value(value)
        else:
            problems.append(_unknown_setting(name, own, of_data))
    settings = _collected(problems, lambda: from_dict(own, Settings))
    model = _collected(problems, lambda: _built(of_model).model)
    sources = [_source(name, text, of_data[name], problems) for name, text in datasets.items()]
    if problems:
        raise SettingsError(problems)
    shared = {own: getattr(settings, name) for own, name in FOR_ALL.items()} | {"fraction": 1.0}
    sources = tuple(replace(source, **shared) for source in sources)
    return Request(settings=settings, model=model, sources=sources)


def _datasets(value: Any, problems: list[str]) -> dict[str, str]:
    """Choices of conf/data and files, by name; a file is named up to its first dot.

    Args:
        value: A list, or names with commas between them, with or without brackets.
        problems: Receives sentences about what cannot be used.
    """
    texts = value if isinstance(value, list) else str(value).strip("[]").split(",")
    datasets: dict[str, str] = {}
    for text in (str(t).strip() for t in texts):
        name = Path(text).name.partition(".")[0] if _is_file(text) else text
        if not name:
            problems.append(f"data={value} lacks a name of a dataset")
        elif name in datasets:
            problems.append(f"data names {name} twice")
        else:
            datasets[name] = text
    return datasets


def _is_file(place: str) -> bool:
    return "/" in place or "." in place  # no choice has a dot in its name


def _source(name: str, text: str, own: Mapping[str, str], problems: list[str]) -> Any:
    """The dataset that `text` names, with settings of its own."""
    choice = {"data": text}
    if _is_file(text):
        choice = {"data": "jsonl", "data.path": _quoted(text), "data.name": _quoted(name)}
    of_data: list[str] = []
    source = _collected(of_data, lambda: _built({**choice, **own}).data)
    problems += [_with_name(name, p) for p in of_data]
    return source


def _quoted(text: str) -> str:
    """Text that Hydra reads as it is, whatever characters it has."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _with_name(name: str, problem: str) -> str:
    """A sentence about `data.path` as one about the `path` of a dataset."""
    return re.sub(r"(?<![\w./=-])data\.(?=[a-z])", lambda _: f"{name}.", problem)


def _built(settings: Mapping[str, str]) -> Run:
    """A run with this model or this dataset, of which only that part is used."""
    from alps.config.build import build, compose_config

    return build(compose_config([f"{k}={v}" for k, v in settings.items()]))


def _experiment_settings(chosen: Mapping[str, str]) -> dict[str, str]:
    """Settings of an experiment as if they were typed."""
    from alps.config.build import compose_config

    composed = compose_config([f"{k}={v}" for k, v in chosen.items()])
    if "embed" not in composed:
        raise SettingsError([f"experiment={chosen['experiment']} embeds nothing: figure7 does"])
    return {str(name): str(value) for name, value in composed.embed.items()}


def _collected(problems: list[str], make: Callable[[], Any], otherwise: Any = None) -> Any:
    try:
        return make()
    except SettingsError as error:
        problems += error.problems
        return otherwise


def _unknown_setting(name: str, known: Mapping[str, Any], datasets: Mapping[str, Any]) -> str:
    dataset, dot, setting = name.rpartition(".")
    if dot and dataset in datasets:
        return f"{name} is one for all datasets of a picture: set {FOR_ALL[setting]}"
    if dot and dataset == "data":
        example = f"{next(iter(datasets), 'jsonl')}.{setting}"
        return f"{name} is no setting of a list: name the dataset, as in {example}"
    return f"there is no setting {name}{did_you_mean(name, [*known, 'data', 'model', *datasets])}"


def _value(text: str) -> Any:
    """Numbers, true, false, null and lists as YAML has them; anything else is text as it stands."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if value is None or isinstance(value, int | float | list) else text


def _examples(request: Request) -> dict[str, list[Example]]:
    """Examples of every dataset.

    Raises:
        SettingsError: If a dataset cannot be read, or there are too few examples in all.
    """
    from alps.data.subset import training_examples

    examples, problems = {}, []
    for source in request.sources:
        try:
            examples[source.name] = list(training_examples(source))
        except (ValueError, OSError) as error:
            problems.append(_with_name(source.name, error_sentence(error)))
    total = sum(map(len, examples.values()))
    if not problems and total < MIN_EXAMPLES:
        problems.append(f"three dimensions need {MIN_EXAMPLES} rows at least; there are {total}")
    if problems:
        raise SettingsError(problems)
    return examples


def _report(request: Request, examples: Mapping[str, list[Example]]) -> Path:
    """Writes embeddings, points, measures and pictures; returns the report's folder."""
    from alps.base.atomic import write_json
    from alps.embedding.cache import embed_all
    from alps.embedding.measures import measure
    from alps.report.figure.embedding import draw_page, draw_picture, read_points, write_points

    s, folder = request.settings, request.folder
    vectors, about = embed_all(request, examples, progress_bar)
    positions, measures = measure(vectors, s.projection, s.num_neighbors, s.seed)
    summary = {**about, **measures}
    labelled = [(name, one.instruction) for name, each in examples.items() for one in each]
    write_points(folder / "points.csv", labelled, positions.tolist())
    points = read_points(folder / "points.csv")
    draw_picture(points, summary, folder / "figure7.png")
    draw_page(points, summary, folder / "figure7.html")
    write_json(folder / "measures.json", summary)
    return folder


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import config_choices, group_settings, read_yaml, root_settings

    choices = {"data": config_choices("data")}
    entries, _ = read_yaml("embed")
    (model,) = (e["model"] for e in entries["defaults"] if "model" in e)
    groups = [replace(group, default=model) for group in group_settings("model")]
    return {"Settings": [*groups, *root_settings("embed", Settings, choices=choices)]}


command = SettingsCommand(
    embed,
    sections,
    (
        "alps embed data=mini_general,mini_math,mini_code",
        "alps embed data=a.jsonl,alpaca a.instruction_field=question projection=tsne",
        "alps embed experiment=figure7 scale=mini",
    ),
)
