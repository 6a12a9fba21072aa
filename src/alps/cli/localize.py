"""`alps localize`: which heads a task changed, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input, progress_bar

if TYPE_CHECKING:
    from alps.heads.head_set import HeadSet
    from alps.localization.request import Request

LISTS = ("metric",)
"""Settings that take several values; Hydra would read a bare comma list as a sweep."""


def localize(arguments: Sequence[str]) -> None:
    """Scores the heads of two checkpoints by their change."""
    from alps.config.build import build_request, compose_config

    with exit_on_bad_input():
        composed = compose_config([list_override(a) for a in arguments], "localize")
        request = build_request(composed)
        folder, sets = _localize(request)

    from alps.report.heads.overlap import compare
    from alps.report.heads.overlap_view import print_comparison
    from alps.report.heads.summary import print_heads

    print_heads(sets[request.metric[0]])
    if len(sets) > 1:
        print_comparison(compare(list(sets.items())))
    print(f"files: {folder}")
    if request.logger.names:
        from alps.pipeline.wandb_record import track_localization

        track_localization(folder, request.logger)


def _localize(request: Request) -> tuple[Path, dict[str, HeadSet]]:
    """Writes scores, head sets and heat maps; returns their folder and the head sets by metric."""
    from alps.base.atomic import write_json
    from alps.config.build import model_choice
    from alps.localization.cache import CheckpointPair, localize_cached
    from alps.pipeline.checkpoints import resolve_checkpoint
    from alps.report.heads.heat_map import draw_heat_map
    from alps.scores import non_default_options

    output_dir = Path(request.output_dir)
    checkpoints = {}
    for name in ("base", "task"):
        text = getattr(request, name)
        with progress_bar(f"fetching q, k, v of {text}", in_bytes=True) as progress:
            checkpoints[name] = resolve_checkpoint(name, text, output_dir, model_choice, progress)
    base, task = checkpoints["base"], checkpoints["task"]
    pair = CheckpointPair(
        base=base.path,
        task=task.path,
        base_name=request.base,
        task_name=request.task,
        base_hash=base.identity,
        task_hash=task.identity,
        geometry=base.geometry or task.geometry,
        matrix=request.matrix,
        bias=request.bias,
        compat=request.compat,
        options=non_default_options(request.options, request.metric),
    )
    with progress_bar("scoring KV groups") as progress:
        scores = localize_cached(output_dir, pair, list(request.metric), progress)
    sets = {metric: s.top(request.ratio) for metric, s in scores.items()}
    folder = pair.folder(output_dir)
    for metric, chosen in sets.items():
        write_json(folder / f"heads-{metric}.json", chosen.to_json())
        draw_heat_map(chosen, folder / f"heat_map-{metric}.png")
    write_json(folder / "heads.json", sets[request.metric[0]].to_json())
    return folder, sets


def list_override(argument: str) -> str:
    """A comma list of values as Hydra writes a list: metric=pad,kl becomes metric=[pad,kl]."""
    name, equals, value = argument.partition("=")
    return f"{name}=[{value}]" if equals and name in LISTS and value[:1] != "[" else argument


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import root_settings
    from alps.localization.request import Request
    from alps.scores import metric_names

    return {"Settings": root_settings("localize", Request, choices={"metric": metric_names()})}


command = SettingsCommand(
    localize,
    sections,
    (
        "alps localize base=meta-llama/Llama-3.2-1B task=meta-llama/Llama-3.2-1B-Instruct",
        "alps localize base=llama3_2_1b task=KEY metric=pad,kl ratio=0.1",
        "alps localize base=FOLDER task=model.safetensors compat=authors",
    ),
)
