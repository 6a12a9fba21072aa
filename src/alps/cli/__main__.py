"""The command line `alps COMMAND`, also `python -m alps.cli COMMAND`."""

from __future__ import annotations

import atexit
import gc
import sys

import click

from alps.base.openmp import spin_briefly
from alps.cli.command import CommandGroup
from alps.cli.messages import debug_enabled, failure_message

COMMANDS = (
    "train", "evaluate", "localize", "heads", "data", "embed", "doctor", "plan", "prefetch",
    "submit", "status", "logs", "cancel", "retry", "runs", "report", "dashboard", "sync",
    "workspace", "export",
)  # fmt: skip
"""Each is `command` in the module of its name."""

JOB_COMMANDS = ("submit", "status", "logs", "cancel", "retry")
"""Those whose modules are in `cli/jobs`."""

TRACKING_COMMANDS = ("sync", "workspace")
"""Those whose modules are in `cli/tracking`."""

HELP = """Localize attention heads, train only those, compare honestly.

Settings are written name=value. KEY is any unique part of a run's key, as `alps runs` lists them.

\b
  alps train -m method=alps,random ratio=0.1,0.3   train, evaluate and tabulate a grid
  alps evaluate run=KEY                            benchmarks of a trained run
  alps report experiment=table1                    a table beside the paper's
  alps dashboard --open                            all runs on one page
  alps COMMAND --help                              settings and examples of a command
"""


def unknown_command(name: str) -> str:
    """Sentence about a command that does not exist."""
    from alps.base.serialization import did_you_mean

    return f"there is no command '{name}'{did_you_mean(name, COMMANDS)}"


def _module(name: str) -> str:
    folders = {
        **dict.fromkeys(JOB_COMMANDS, "jobs."),
        **dict.fromkeys(TRACKING_COMMANDS, "tracking."),
    }
    return f"alps.cli.{folders.get(name, '')}{name}"


alps = click.version_option(package_name="alps", message="%(version)s")(
    CommandGroup(
        "alps", {name: f"{_module(name)}:command" for name in COMMANDS}, unknown_command, HELP
    )
)


def main() -> None:
    """Entry point `alps`."""
    spin_briefly()
    atexit.register(gc.freeze)  # else Python visits all that torch has loaded before it ends
    arguments = sys.argv[1:]
    if arguments in ([], ["help"]):
        arguments = ["--help"]
    try:
        alps.main(arguments, prog_name="alps", standalone_mode=False)
    except click.UsageError as error:
        from alps.config.errors import exit_with_errors

        exit_with_errors([error.format_message()])
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except Exception as error:
        if debug_enabled(arguments):
            raise
        print(f"error: {failure_message(error)} (debug=true says where)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
