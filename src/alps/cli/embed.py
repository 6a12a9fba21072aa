"""`alps embed`: where datasets lie in a model's representation space (Figure 7)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.serialization import SettingsError, did_you_mean, from_dict
from alps.cli.heads import problems_of, progress_bar, sentence
from alps.embedding.request import Request, Settings

if TYPE_CHECKING:
    from alps.data.example import Example

FOR_ALL = {
    "max_examples": "num_rows",
    "fraction": "num_rows",
    "subset_seed": "seed",
    "template": "template",
    "max_length": "max_length",
}
"""Settings of a dataset that must not differ between the datasets of a picture, and their names."""

FEWEST_ROWS = 4
"""Three points span a plane."""


def embed(arguments: Sequence[str]) -> None:
    """Embeds rows of each dataset, projects and measures them, draws and prints the result."""
    from alps.config import build as config

    try:
        request = requested(arguments)
        examples = _rows(request)
        folder = _report(request, examples)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(problems_of(error)))
    for source in request.sources:
        if len(examples[source.name]) < request.settings.num_rows:
            had, asked = len(examples[source.name]), request.settings.num_rows
            print(f"note: {source.name} has {had} rows; {asked} were asked for", file=sys.stderr)

    from alps.report.figure.embedding import print_measures, read_measures

    print_measures(read_measures(folder))
    print(f"files: {folder}")


def requested(arguments: Sequence[str]) -> Request:
    """What the arguments ask for.

    Args:
        arguments: `setting=value`; `<dataset>.<field>=value` is a setting of one dataset, and
            `experiment=figure7` those of the paper's figure, which the others change.

    Raises:
        SettingsError: All problems together.
    """
    from alps.config import build as config

    plain = config.plain_config(config.compose_config([], "embed"))
    problems = [f"'{a}' is not understood: write setting=value" for a in arguments if "=" not in a]
    given = {name: value for name, equals, value in (a.partition("=") for a in arguments) if equals}
    if "experiment" in given:
        chosen = {name: given.pop(name) for name in ("experiment", "scale") if name in given}
        given = {**_collected(problems, lambda: _settings_of(chosen), {}), **given}
    listed, model = plain.pop("data"), plain.pop("model")["name"]
    places = _places(given.pop("data") if "data" in given else listed, problems)
    of_model = {} if "model" in given else {"model": model}
    of_data: dict[str, dict[str, str]] = {name: {} for name in places}
    for name, value in given.items():
        dataset, dot, setting = name.rpartition(".")
        if name.split(".")[0] == "model":
            of_model[name] = value
        elif dot and dataset in of_data and setting not in FOR_ALL:
            of_data[dataset][f"data.{setting}"] = value
        elif name in plain:
            plain[name] = _value(value)
        else:
            problems.append(_why_unknown(name, plain, of_data))
    settings = _collected(problems, lambda: from_dict(plain, Settings))
    model = _collected(problems, lambda: _built(of_model).model)
    sources = [_source(name, place, of_data[name], problems) for name, place in places.items()]
    if problems:
        raise SettingsError(problems)
    rows = {"max_examples": settings.num_rows, "fraction": 1.0, "subset_seed": settings.seed}
    rows |= {"template": settings.template, "max_length": settings.max_length}
    sources = tuple(replace(source, **rows) for source in sources)
    return Request(settings=settings, model=model, sources=sources)


def _places(given: Any, problems: list[str]) -> dict[str, str]:
    """Datasets by name: choices in conf/data, and files, named up to their first dot.

    Args:
        given: A list, or names with commas between them, with or without brackets.
        problems: Receives what cannot be used.
    """
    listed = given if isinstance(given, list) else str(given).strip("[]").split(",")
    found: dict[str, str] = {}
    for place in (str(p).strip() for p in listed):
        name = Path(place).name.partition(".")[0] if _is_file(place) else place
        if not name:
            problems.append(f"data={given} lacks a name of a dataset")
        elif name in found:
            problems.append(f"data names {name} twice")
        else:
            found[name] = place
    return found


def _is_file(place: str) -> bool:
    return "/" in place or "." in place  # no choice has a dot in its name


def _source(name: str, place: str, own: Mapping[str, str], problems: list[str]) -> Any:
    choice = {"data": place}
    if _is_file(place):
        choice = {"data": "jsonl", "data.path": _quoted(place), "data.name": _quoted(name)}
    found: list[str] = []
    source = _collected(found, lambda: _built({**choice, **own}).data)
    problems += [_of(name, p) for p in found]
    return source


def _quoted(text: str) -> str:
    """A text as Hydra reads it whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _of(name: str, problem: str) -> str:
    """A sentence about `data.path` that says which dataset's `path` is meant."""
    return re.sub(r"(?<![\w./=-])data\.(?=[a-z])", lambda _: f"{name}.", problem)


def _built(settings: Mapping[str, str]) -> Any:
    """A run with this model or this data, for the sake of that part."""
    from alps.config import build as config

    return config.build(config.compose_config([f"{k}={v}" for k, v in settings.items()]))


def _settings_of(chosen: Mapping[str, str]) -> dict[str, str]:
    """What an experiment sets, as if it stood on the command line."""
    from alps.config import build as config

    composed = config.compose_config([f"{k}={v}" for k, v in chosen.items()])
    if "embed" not in composed:
        raise SettingsError([f"experiment={chosen['experiment']} embeds nothing: figure7 does"])
    return {str(name): str(value) for name, value in composed.embed.items()}


def _collected(problems: list[str], make: Callable[[], Any], otherwise: Any = None) -> Any:
    try:
        return make()
    except SettingsError as error:
        problems += error.problems
        return otherwise


def _why_unknown(name: str, known: Mapping[str, Any], datasets: Mapping[str, Any]) -> str:
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


def _rows(request: Request) -> dict[str, list[Example]]:
    """The rows of every dataset.

    Raises:
        SettingsError: If a dataset cannot be read, or there are too few rows in all.
    """
    from alps.data.subset import training_examples

    found, problems = {}, []
    for source in request.sources:
        try:
            found[source.name] = list(training_examples(source))
        except (ValueError, OSError) as error:
            problems.append(_of(source.name, sentence(error)))
    total = sum(map(len, found.values()))
    if not problems and total < FEWEST_ROWS:
        problems.append(f"three dimensions need {FEWEST_ROWS} rows at least; there are {total}")
    if problems:
        raise SettingsError(problems)
    return found


def _report(request: Request, examples: Mapping[str, list[Example]]) -> Path:
    """Embeddings, points, measures and pictures in the report's folder."""
    from alps.base.atomic import write_json
    from alps.embedding.cache import embed_all
    from alps.embedding.measures import measure
    from alps.report.figure.embedding import draw_page, draw_picture, read_points, write_points

    s, folder = request.settings, request.folder
    vectors, about = embed_all(request, examples, progress_bar)
    places, measures = measure(vectors, s.projection, s.num_neighbors, s.seed)
    found = {**about, **measures}
    labelled = [(name, row.instruction) for name, rows in examples.items() for row in rows]
    write_points(folder / "points.csv", labelled, places.tolist())
    points = read_points(folder / "points.csv")
    draw_picture(points, found, folder / "figure7.png")
    draw_page(points, found, folder / "figure7.html")
    write_json(folder / "measures.json", found)
    return folder
