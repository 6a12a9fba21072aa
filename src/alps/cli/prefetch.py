"""`alps prefetch`: everything that runs read, fetched before they start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alps.cli.arguments import without_multirun
from alps.cli.command import Sections, SettingsCommand
from alps.cli.messages import error_sentence, exit_on_bad_input


def prefetch(arguments: Sequence[str]) -> None:
    """Fetches models, data and benchmarks of runs.

    The runs then need no network. Settings are those of alps train, with or without -m.
    """
    from alps.config.build import runs_of
    from alps.pipeline.prefetch import requirements

    with exit_on_bad_input():
        required = requirements(runs_of(without_multirun(arguments)), "auto")
    failures = 0
    for item in required:
        try:
            print(f"{item.kind} {item.name}: {item.fetch()}", flush=True)
        except (ValueError, OSError) as error:
            failures += 1
            reason = error_sentence(error)
            print(f"error: {item.kind} {item.name}: {reason}", file=sys.stderr, flush=True)
    if failures:
        print(f"{failures} of {len(required)} are missing; the same command goes on from here")
        sys.exit(1)
    print(f"all {len(required)} are here: these runs need no network any more")


def sections() -> Sections:
    """Settings of the command: those of `alps train`."""
    from alps.cli.setting_docs import group_settings, root_settings

    return {"Settings": root_settings("train"), "Choices, files of conf/NAME": group_settings()}


command = SettingsCommand(
    prefetch,
    sections,
    (
        "alps prefetch experiment=table1",
        "alps prefetch model=llama3_2_1b data=alpaca evals=math",
        "alps prefetch -m method=alps,random model=llama3_2_1b,qwen2_5_1_5b",
    ),
)
