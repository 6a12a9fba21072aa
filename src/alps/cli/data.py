"""`alps data`: examples of a dataset as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alps.cli.arguments import split_settings
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import exit_on_bad_input


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Settings of `alps data` beside those of a run.

    Attributes:
        samples: Number of examples shown.
    """

    samples: str = "2"


def data(arguments: Sequence[str]) -> None:
    """Shows a dataset as a model reads it."""
    from alps.config.build import build, compose_config
    from alps.pipeline.preflight import check

    values, rest = split_settings(arguments, ("samples",))
    samples = DataSettings(**values).samples
    with exit_on_bad_input():
        if not samples.isdecimal():
            raise ValueError(f"samples must be a whole number, got {samples}")
        run = build(compose_config(["method=full", "evals=none", *rest]))
        check(run)

        from alps.data.describe import QUANTILES, describe
        from alps.models.checkpoint import materialize
        from alps.models.load import context_length, load_tokenizer
        from alps.report.runs.data_summary import print_data

        folder = materialize(run.model)
        tokenizer, context = load_tokenizer(folder), context_length(folder)
        summary = describe(run.data, tokenizer, int(samples), "auto", context)
    print_data(summary, QUANTILES)


def sections() -> Sections:
    """Settings of the command."""
    from alps.cli.setting_docs import dataclass_settings, group_settings, part_settings

    return {
        "Settings": [*dataclass_settings(DataSettings), *group_settings("data", "model")],
        **part_settings("data"),
    }


command = SettingsCommand(
    data,
    sections,
    (
        "alps data data=mini_math samples=3",
        "alps data data=alpaca model=llama3_2_1b",
        "alps data data=jsonl data.path=rows.jsonl",
    ),
)
