"""`alps data` and `alps prefetch`: what rows look like, and everything fetched before jobs run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alps.cli.heads import problems_of, sentence

OWN = {"samples": "2"}
"""Settings of `alps data` beside those of a run, with their defaults."""


def data(arguments: Sequence[str]) -> None:
    """Shows the rows of a dataset as a model would read them."""
    from alps.config import build as config
    from alps.pipeline.preflight import check

    parts = [a.partition("=") for a in arguments]
    own = {**OWN, **{name: value for name, equals, value in parts if equals and name in OWN}}
    rest = ["".join(part) for part in parts if not (part[1] and part[0] in OWN)]
    try:
        if not own["samples"].isdecimal():
            raise ValueError(f"samples must be a whole number, got {own['samples']}")
        run = config.build(config.compose_config(["method=full", "evals=none", *rest]))
        check(run)

        from alps.data.describe import QUANTILES, describe
        from alps.models.checkpoint import materialize
        from alps.models.load import context_length, load_tokenizer
        from alps.report.runs.data_summary import print_data

        folder = materialize(run.model)
        tokenizer, context = load_tokenizer(folder), context_length(folder)
        found = describe(run.data, tokenizer, int(own["samples"]), "auto", context)
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(problems_of(error)))
    print_data(found, QUANTILES)


def prefetch(arguments: Sequence[str]) -> None:
    """Fetches models, data and what benchmarks need of all runs of a grid."""
    from alps.config import build as config
    from alps.pipeline.prefetch import needs

    settings = [a for a in arguments if a not in ("-m", "--multirun")]
    try:
        wanted = needs(config.runs_of(settings), "auto")
    except (ValueError, OSError) as error:
        sys.exit(config.refuse(problems_of(error)))
    failures = 0
    for need in wanted:
        try:
            print(f"{need.kind} {need.name}: {need.fetch()}", flush=True)
        except (ValueError, OSError) as error:
            failures += 1
            why = sentence(error)
            print(f"error: {need.kind} {need.name}: {why}", file=sys.stderr, flush=True)
    if failures:
        print(f"{failures} of {len(wanted)} are missing; the same command goes on from here")
        sys.exit(1)
    print(f"all {len(wanted)} are here: these runs need no network any more")
